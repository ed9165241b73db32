//! What the switch reads from and writes into IPv4 packets.
//!
//! Must not panic on any bytes: a packet that is not understood has no ports and no payload. Invariant: a packet that
//! was changed here has valid checksums.

/// Protocol number of TCP.
const TCP: u8 = 6;
const ACK: u8 = 0x10;
const RST: u8 = 0x04;

fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

/// Returns source and destination as last bytes of their addresses; nothing for what is not IPv4.
pub(crate) fn ends(packet: &[u8]) -> Option<(u8, u8)> {
    (packet.first()? >> 4 == 4).then_some(())?;
    Some((*packet.get(15)?, *packet.get(19)?))
}

/// Where a TCP segment's header and payload begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    header: usize,
    payload: usize,
}

fn segment(packet: &[u8]) -> Option<Segment> {
    ends(packet)?;
    (*packet.get(9)? == TCP).then_some(())?;
    let header = usize::from(packet.first()? & 15) * 4;
    let length = usize::from(packet.get(header + 12)? >> 4) * 4;
    let payload = header + length;
    (length >= 20 && payload <= packet.len()).then_some(Segment { header, payload })
}

/// Returns how many bytes of payload a TCP segment has.
pub(crate) fn payload_len(packet: &[u8]) -> usize {
    segment(packet).map_or(0, |segment| packet.len() - segment.payload)
}

/// Flips one bit of a TCP segment's payload and repairs the checksum, so that only what is above TCP can tell. Says
/// whether there was a payload.
pub(crate) fn corrupt(packet: &mut [u8], chance: u64) -> bool {
    let Some(segment) = segment(packet) else { return false };
    let length = packet.len() - segment.payload;
    let (Ok(length), Ok(bit)) = (u64::try_from(length), u8::try_from(chance % 8)) else {
        return false;
    };
    if length == 0 {
        return false;
    }
    let offset = usize::try_from((chance / 8) % length).unwrap_or(0);
    packet[segment.payload + offset] ^= 1 << bit;
    seal_tcp(packet, segment.header);
    true
}

/// Returns a reset of the segment's connection for its receiver and one for its sender.
pub(crate) fn resets(packet: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let segment = segment(packet)?;
    let tcp = packet.get(segment.header..)?;
    let (source, destination) = (packet.get(12..16)?, packet.get(16..20)?);
    let ports = (tcp.get(..2)?, tcp.get(2..4)?);
    let (sequence, acknowledged) = (tcp.get(4..8)?, tcp.get(8..12)?);
    let forward = reset([source, destination], [ports.0, ports.1], [sequence, acknowledged]);
    let back = reset([destination, source], [ports.1, ports.0], [acknowledged, sequence]);
    Some((forward, back))
}

fn reset(addresses: [&[u8]; 2], ports: [&[u8]; 2], numbers: [&[u8]; 2]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, TCP, 0, 0];
    for field in addresses.iter().chain(&ports).chain(&numbers) {
        packet.extend_from_slice(field);
    }
    packet.extend_from_slice(&[0x50, RST | ACK, 0, 0, 0, 0, 0, 0]);
    put_u16(&mut packet, 10, 0);
    let header = checksum(packet.get(..20).unwrap_or_default(), 0);
    put_u16(&mut packet, 10, header);
    seal_tcp(&mut packet, 20);
    packet
}

fn seal_tcp(packet: &mut [u8], header: usize) {
    put_u16(packet, header + 16, 0);
    let sum = tcp_checksum(packet, header);
    put_u16(packet, header + 16, sum);
}

/// Returns the checksum of the segment with its pseudo header: zero over one whose checksum is valid.
fn tcp_checksum(packet: &[u8], header: usize) -> u16 {
    let segment = packet.get(header..).unwrap_or_default();
    let length = u32::try_from(segment.len()).unwrap_or(u32::MAX);
    let addresses = packet.get(12..20).unwrap_or_default();
    let pseudo = sum(addresses) + u32::from(TCP) + length;
    checksum(segment, pseudo)
}

fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    words.sum()
}

fn checksum(bytes: &[u8], start: u32) -> u16 {
    // At most 65,535 bytes: the sum of their words fits.
    let mut folded = sum(bytes) + start;
    while folded > 0xffff {
        folded = (folded & 0xffff) + (folded >> 16);
    }
    !u16::try_from(folded).unwrap_or(0)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns a valid TCP segment with this payload.
    pub(crate) fn tcp(from: u8, to: u8, payload: &[u8]) -> Vec<u8> {
        let (source, destination) = ([10, 77, 0, from], [10, 77, 0, to]);
        let ports: [&[u8]; 2] = [&[0x1c, 4], &[0x90, 1]];
        let numbers: [&[u8]; 2] = [&[0, 0, 1, 0], &[0, 0, 2, 0]];
        let mut packet = reset([&source, &destination], ports, numbers);
        packet[33] = ACK;
        packet.extend_from_slice(payload);
        let length = u16::try_from(packet.len()).unwrap();
        put_u16(&mut packet, 2, length);
        put_u16(&mut packet, 10, 0);
        let header = checksum(&packet[..20], 0);
        put_u16(&mut packet, 10, header);
        seal_tcp(&mut packet, 20);
        packet
    }

    #[test]
    fn the_checksum_is_that_of_rfc_1071() {
        // The example of the RFC's section 3: the sum is 2ddf0, folded ddf2.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7], 0), !0xddf2);
        assert_eq!(checksum(&[0x01], 0), !0x0100);
    }

    #[test]
    fn a_corrupt_segment_differs_in_one_bit_of_its_payload_and_has_a_valid_checksum() {
        for chance in [0, 7, 8, 12_345_678] {
            let whole = tcp(1, 2, b"payload");
            let mut damaged = whole.clone();
            assert!(corrupt(&mut damaged, chance));
            assert_eq!(tcp_checksum(&damaged, 20), 0);
            let bits = |a: &[u8], b: &[u8]| {
                a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>()
            };
            assert_eq!(bits(&whole[40..], &damaged[40..]), 1);
        }
        assert!(!corrupt(&mut tcp(1, 2, b""), 5), "there is nothing to corrupt");
    }

    #[test]
    fn resets_go_both_ways_with_the_numbers_that_each_end_expects() {
        let (forward, back) = resets(&tcp(1, 2, b"x")).unwrap();
        assert_eq!((ends(&forward), ends(&back)), (Some((1, 2)), Some((2, 1))));
        assert_eq!((&forward[24..28], &back[24..28]), (&[0, 0, 1, 0][..], &[0, 0, 2, 0][..]));
        for packet in [forward, back] {
            assert_eq!((tcp_checksum(&packet, 20), checksum(&packet[..20], 0)), (0, 0));
            assert_eq!(packet[33] & RST, RST);
        }
    }

    #[test]
    fn bytes_that_are_no_segment_are_left_alone() {
        let whole = tcp(1, 2, b"payload");
        for length in 0..40 {
            let mut cut = whole[..length].to_vec();
            assert!(!corrupt(&mut cut, 3));
            assert!(resets(&cut).is_none());
            assert_eq!(payload_len(&cut), 0);
        }
        assert_eq!(payload_len(&whole), 7);
        assert_eq!(ends(&[0x60; 40]), None, "IPv6 is not carried");
    }
}
