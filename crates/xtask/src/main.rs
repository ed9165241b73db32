//! The repository's tasks: `cargo xtask <command>`.
//!
//! It is the first thing that runs on a fresh machine, so it depends on the standard library and `anyhow`
//! alone and needs no system package itself. It must not hold knowledge that a crate under test should
//! hold. Invariant: `tidy` and `verify` change nothing; only `fix`, `codegen` and the set-up steps write.

mod child;
mod commands;
mod deny;
mod jepsen;
mod lexer;
mod manifest;
mod setup;
mod source;
mod stats;
mod tidy;
mod tree;
mod ui;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  demo  [-- args]   build `alluvium` in release and run its demonstration
  test  [-- args]   install what the tests need, then run every check and every test
  verify            the gate before a commit: format, tidy, deny, clippy, core tests, doc links
  tidy              the repository's own rules (under a second)
  deny              hold .cargo/deny.toml: licenses, banned and second crates, sources
  fix               format the code and refresh the hashes in docs/formats
  bench [-- args]   run the benchmarks (crates/bench)
  bench-cluster [-- args]
                    run those of three nodes against etcd (crates/bench-cluster)
  load [--minutes N]  write, snapshot and purge on three nodes for 5 minutes, or N
  fault [-- args]   run the fault tests at every point (tests/fault): hours
  jepsen [-- args]  run clients against a real cluster under real faults (jepsen); `--ci`: two minutes
  codegen           regenerate the committed protobuf code
  stats             print size tables of the tree
";

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if args.is_empty() {
        ui::warn(USAGE);
        return ExitCode::from(2);
    }
    let command = args.remove(0);
    let rest: &[String] = match args.first() {
        Some(dashes) if dashes == "--" => &args[1..],
        Some(_) | None => &args,
    };
    if command == "jepsen" {
        return jepsen::run(rest).unwrap_or_else(|error| failure(&error));
    }
    let outcome = match command.as_str() {
        "demo" => commands::demo(rest),
        "test" => commands::test(rest),
        "verify" => commands::verify(),
        "tidy" => commands::tidy(),
        "deny" => deny::check(),
        "fix" => commands::fix(),
        "bench" => commands::bench(rest),
        "bench-cluster" => commands::bench_cluster(rest),
        "fault" => commands::fault(rest),
        "load" => commands::load(rest),
        "codegen" => commands::codegen(rest),
        "stats" => commands::stats(),
        "help" | "-h" | "--help" => {
            ui::say(USAGE);
            Ok(())
        }
        unknown => {
            ui::warn(&format!("unknown command `{unknown}`\n\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure(&error),
    }
}

fn failure(error: &anyhow::Error) -> ExitCode {
    ui::warn(&format!("error: {error:#}"));
    ExitCode::FAILURE
}
