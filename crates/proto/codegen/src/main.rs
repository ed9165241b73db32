//! Writes the generated code of `crates/proto`: `cargo xtask codegen`.
//!
//! It must not be part of an ordinary build: what it makes is committed, and a test here says when that is
//! old. Invariant: the same proto files give the same bytes on every machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use prost::Message as _;

/// What clients speak: its descriptors are served for reflection.
const LAKE_FILE: &str = "alluvium/v1/lake.proto";
/// What nodes speak among themselves.
const PEER_FILE: &str = "alluvium/peer/v1/peer.proto";
const DESCRIPTOR_FILE: &str = "alluvium.v1.bin";
const HEADER: &str = "// Made by `cargo xtask codegen` from crates/proto/proto. Do not edit.\n";

fn main() -> Result<()> {
    let made = generate()?;
    let target = generated_dir();
    std::fs::create_dir_all(&target).context("create the directory of generated code")?;
    for (name, content) in &made {
        write(&target.join(name), content)?;
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a file under version control need not survive a power cut"
)]
fn write(path: &Path, content: &[u8]) -> Result<()> {
    std::fs::write(path, content).with_context(|| format!("write {}", path.display()))
}

/// Cargo says at run time where the crate is: two checkouts that share a target directory share this program.
fn proto_crate() -> PathBuf {
    let own = std::env::var_os("CARGO_MANIFEST_DIR");
    own.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from).join("..")
}

fn generated_dir() -> PathBuf {
    proto_crate().join("src/generated")
}

/// Returns the generated files by name.
fn generate() -> Result<BTreeMap<String, Vec<u8>>> {
    let compile = |file| {
        protox::compile([file], [proto_crate().join("proto")])
            .with_context(|| format!("compile {file}"))
    };
    let descriptors = compile(LAKE_FILE)?;
    let mut made = BTreeMap::new();
    // Reflection serves names, not comments: without source locations the set is a third of its size.
    let mut lean = descriptors.clone();
    for file in &mut lean.file {
        file.source_code_info = None;
    }
    made.insert(DESCRIPTOR_FILE.to_owned(), lean.encode_to_vec());
    let out = tempfile::tempdir().context("create a temporary directory")?;
    for descriptors in [descriptors, compile(PEER_FILE)?] {
        tonic_prost_build::configure()
            .out_dir(out.path())
            .bytes(".alluvium")
            .compile_fds(descriptors)
            .context("generate code")?;
    }
    for entry in std::fs::read_dir(out.path()).context("list generated code")? {
        let path = entry.context("list generated code")?.path();
        let code = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let name = path.file_name().and_then(|name| name.to_str()).context("a file name")?;
        let code = String::from_utf8(code).context("generated code is text")?;
        made.insert(name.to_owned(), (HEADER.to_owned() + &without_allow(&code)).into_bytes());
    }
    ensure!(made.len() == 3, "each package makes one file beside the descriptors");
    Ok(made)
}

/// Removes the generator's own `allow` attributes: the crate says once which lints its code does not keep.
fn without_allow(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut is_inside = false;
    for line in code.lines() {
        let text = line.trim_start();
        is_inside |= text.starts_with("#[allow(") || text.starts_with("#![allow(");
        if !is_inside {
            kept.push_str(line);
            kept.push('\n');
        }
        is_inside &= !text.ends_with(")]");
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_code_is_what_the_proto_files_make() {
        for (name, made) in generate().expect("generates") {
            let committed = std::fs::read(generated_dir().join(&name)).unwrap_or_default();
            assert!(committed == made, "{name} is old: run `cargo xtask codegen` and commit");
        }
    }
}
