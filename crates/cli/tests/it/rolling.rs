//! Every server of a cluster is restarted in turn while programs write and read: none of their calls fails.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use alluvium_client::{Client, Options, QueryOptions, RegisterOptions, Rows, WriteOptions};
use arrow::array::{AsArray as _, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use futures::future::{join, join_all};

use crate::cluster::send;
use crate::support::{parse, program};

const SERVERS: usize = 3;
/// Writes between two restarts.
const WRITES: i64 = 60;

/// A server that keeps its ports over restarts.
struct Member {
    listen: String,
    peer: String,
    child: Option<Child>,
}

fn free_address() -> String {
    #[expect(clippy::disallowed_methods, reason = "only the number is wanted")]
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    taken.local_addr().expect("has one").to_string()
}

impl Member {
    fn start(&mut self, root: &Path, number: usize, join: Option<&str>) {
        let mut command = program(root);
        command.args(["serve", "--data-dir"]).arg(root.join(format!("node-{number}")));
        command.args(["--listen", &self.listen, "--peer", &self.peer]);
        if let Some(member) = join {
            command.args(["--join", member]);
        }
        let path = root.join(format!("node-{number}.log"));
        let log = std::fs::File::options().create(true).append(true).open(path).expect("opens");
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("it starts");
        let mut line = String::new();
        let out = child.stdout.as_mut().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("it prints where it listens");
        assert_eq!(parse(&line)["listening"], self.url());
        self.child = Some(child);
    }

    fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// Asks it to end, as an operator would, and waits until it has.
    fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        send("-TERM", &child.id().to_string());
        let ended = child.wait().expect("it ends");
        assert!(ended.success(), "it ended with {ended}");
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn rows(value: i64) -> RecordBatch {
    let schema = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
    let values = Int64Array::from(vec![value]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(values)]).expect("fits")
}

async fn total(client: &Client) -> (i64, i64) {
    let text = "SELECT count(*), count(DISTINCT n) FROM t";
    let answer = client.query_all(text, QueryOptions::default()).await.expect("answered");
    let number =
        |column: usize| answer.batches[0].column(column).as_primitive::<Int64Type>().value(0);
    (number(0), number(1))
}

/// Waits until all are there, have a vote and have what the others have.
async fn whole(client: &Client) {
    loop {
        let statuses = client.statuses().await;
        let votes = client.members().await.unwrap_or_default();
        let is_whole = statuses.iter().all(|(_, status)| {
            status.as_ref().is_ok_and(|status| status.leader.is_some() && status.files_missing == 0)
        });
        if is_whole && votes.iter().filter(|member| member.votes).count() == SERVERS {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_load_fails_no_call_of_a_client() {
    let root = tempfile::tempdir().expect("temporary directory");
    let mut members: Vec<Member> = (0..SERVERS)
        .map(|_| Member { listen: free_address(), peer: free_address(), child: None })
        .collect();
    let first = members[0].peer.clone();
    for (number, member) in members.iter_mut().enumerate() {
        member.start(root.path(), number, (number > 0).then_some(first.as_str()));
    }
    let urls: Vec<String> = members.iter().map(Member::url).collect();
    let connect = |name: &str| Client::connect(&urls, Options::named(name)).expect("addresses");
    let operator = connect("operator");
    whole(&operator).await;
    let schema = alluvium_client::from_arrow(rows(0).schema().as_ref(), &[]).expect("legal");
    let kept = RegisterOptions::default();
    let options = WriteOptions::default();
    operator.register("t", &schema, kept, options).await.expect("registers");
    let (done, written) = (AtomicBool::new(false), AtomicI64::new(0));
    let writers = (1..=4_i64).map(|writer| {
        let client = connect(&format!("writer-{writer}"));
        let (done, written) = (&done, &written);
        async move {
            let mut count = 0;
            while !done.load(Ordering::SeqCst) {
                let batch = rows(writer * 1_000_000 + count);
                let kept = Rows::kept(&[batch]).expect("fits");
                let appended = client.append("t", kept, options).await;
                appended.expect("no call fails for good, and none is left in doubt");
                count += 1;
                written.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let reader = async {
        let client = connect("reader");
        let mut last = 0;
        while !done.load(Ordering::SeqCst) {
            let before = written.load(Ordering::SeqCst);
            let (count, distinct) = total(&client).await;
            assert_eq!(count, distinct, "a row is there twice");
            assert!(before <= count && last <= count, "{count} rows after {before}, {last}");
            last = count;
        }
    };
    let rolling = async {
        for (number, member) in members.iter_mut().enumerate() {
            let after = written.load(Ordering::SeqCst) + WRITES;
            while written.load(Ordering::SeqCst) < after {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            tokio::task::block_in_place(|| {
                member.stop();
                member.start(root.path(), number, None);
            });
            whole(&operator).await;
        }
        done.store(true, Ordering::SeqCst);
    };
    join(join(join_all(writers), reader), rolling).await;
    let count = written.load(Ordering::SeqCst);
    assert!(count >= WRITES * 3);
    assert_eq!(total(&operator).await, (count, count));
    let mut digests = Vec::new();
    for (url, status) in operator.statuses().await {
        let status = status.expect("it is there");
        digests.push((status.applied, status.digest));
        assert!(!url.is_empty() && status.job_errors.is_empty(), "{:?}", status.job_errors);
    }
    if digests.iter().all(|digest| digest.0 == digests[0].0) {
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    }
}
