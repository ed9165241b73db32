//! `alluvium certs`: an authority for one cluster, and certificates for its nodes.

use alluvium_peer::{Authority, Identity};
use alluvium_stdx::Prng;
use alluvium_types::ErrorKind;
use serde_json::json;

use crate::args::Certs;
use crate::failure::Failure;
use crate::output::{Format, Record, print_records};

const FIELDS: [&str; 5] = ["node", "cluster", "authority", "certificate", "key"];

pub(super) fn run(arguments: &Certs, format: Format) -> Result<(), Failure> {
    let cluster = cluster_of(arguments.cluster.as_deref())?;
    let authority = Authority::open_or_create(&arguments.dir).map_err(refused)?;
    let mut records: Vec<Record> = Vec::new();
    for &node in &arguments.nodes {
        let issued = authority.issue(Identity { cluster, node }).map_err(refused)?;
        records.push(vec![
            ("node", json!(node)),
            ("cluster", json!(format!("{cluster:032x}"))),
            ("authority", json!(issued.authority)),
            ("certificate", json!(issued.certificate)),
            ("key", json!(issued.key)),
        ]);
    }
    print_records(format, &FIELDS, &records)
}

fn cluster_of(text: Option<&str>) -> Result<u128, Failure> {
    let Some(text) = text else {
        let mut prng = Prng::from_machine();
        return Ok((u128::from(prng.next_u64()) << 64) | u128::from(prng.next_u64()));
    };
    u128::from_str_radix(text, 16).map_err(|_not_one| {
        Failure::usage(format!("{text:?} is not the id of a cluster"))
            .with_hint("`alluvium status` shows it: 32 hexadecimal digits")
    })
}

fn refused(error: alluvium_peer::Error) -> Failure {
    let kind = ErrorKind::InvalidArgument;
    Failure::of_kind(kind, alluvium_server::failures::chain(&error), None)
}
