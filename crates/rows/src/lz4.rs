//! How long an LZ4 frame is once decompressed, found by walking its tokens.
//!
//! Arrow trusts a buffer's claimed length for the first allocation only, and then decompresses as far as the
//! frame goes. It must not allocate or decompress here. Invariant: a length that is returned is exactly what
//! a decoder yields; a damaged frame yields none, or fails in the decoder within that length.

const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
const STORED_BIT: u32 = 1 << 31;

/// Returns the decompressed length of the one frame that fills `bytes`.
pub(crate) fn decompressed_len(bytes: &[u8]) -> Option<u64> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    let (&flags, rest) = rest.split_first()?;
    let has = |bit: u8| flags & (1 << bit) != 0;
    // The block descriptor, then the optional content size and dictionary id, then the header checksum.
    let header_bytes = 1 + if has(3) { 8 } else { 0 } + if has(0) { 4 } else { 0 } + 1;
    let mut rest = rest.get(header_bytes..)?;
    let mut total = 0_u64;
    loop {
        let size = take_u32(&mut rest)?;
        if size == 0 {
            break;
        }
        let length = usize::try_from(size & !STORED_BIT).ok()?;
        let (block, after) = rest.split_at_checked(length)?;
        rest = after;
        let is_stored = size & STORED_BIT != 0;
        total = total.checked_add(if is_stored { length as u64 } else { block_len(block)? })?;
        if has(4) {
            take_u32(&mut rest)?;
        }
    }
    if has(2) {
        take_u32(&mut rest)?;
    }
    rest.is_empty().then_some(total)
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    let (word, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(u32::from_le_bytes(*word))
}

/// Sums literals and matches. The last sequence of a block has literals only.
fn block_len(mut block: &[u8]) -> Option<u64> {
    let mut total = 0_u64;
    loop {
        let (&token, after) = block.split_first()?;
        block = after;
        let literals = run_len(token >> 4, &mut block)?;
        total = total.checked_add(literals)?;
        block = block.get(usize::try_from(literals).ok()?..)?;
        if block.is_empty() {
            return Some(total);
        }
        block = block.get(2..)?;
        total = total.checked_add(run_len(token & 0x0f, &mut block)?)?.checked_add(4)?;
    }
}

/// Fifteen means that bytes follow which add up, until one is not 255.
fn run_len(nibble: u8, block: &mut &[u8]) -> Option<u64> {
    let mut length = u64::from(nibble);
    if nibble != 15 {
        return Some(length);
    }
    loop {
        let (&byte, after) = block.split_first()?;
        *block = after;
        length = length.checked_add(u64::from(byte))?;
        if byte != u8::MAX {
            return Some(length);
        }
    }
}
