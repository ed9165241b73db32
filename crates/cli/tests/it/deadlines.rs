//! Servers that take a call and then say nothing, or begin an answer and stop: the time limit ends it.

use std::io::{Read, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

use crate::support::{Piped, Ran, program};

/// What every HTTP/2 connection starts with.
const PREFACE: usize = 24;
/// The first call of a client is its first stream.
const STREAM: [u8; 4] = [0, 0, 0, 1];
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;

/// Makes a frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    [&length[1..], &[kind, flags], &stream, payload].concat()
}

/// Reads frames until the client has sent the headers of its call.
fn read_call(client: &mut TcpStream) {
    client.read_exact(&mut [0; PREFACE]).expect("a preface");
    loop {
        let mut head = [0; 9];
        client.read_exact(&mut head).expect("a frame");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).expect("32 bits fit")];
        client.read_exact(&mut payload).expect("its payload");
        if head[3] == HEADERS {
            return;
        }
    }
}

/// Answers a call with the headers of a success, and nothing after them.
fn begin_an_answer(client: &mut TcpStream) {
    // The first static entry is the status 200; the name of the other one is the static entry 31.
    let fields = [&[0x88, 0x0f, 0x10, 16][..], b"application/grpc"].concat();
    let start = [frame(SETTINGS, 0, [0; 4], &[]), frame(SETTINGS, 1, [0; 4], &[])].concat();
    client.write_all(&start).expect("it listens");
    read_call(client);
    let end_of_headers = 4;
    client.write_all(&frame(HEADERS, end_of_headers, STREAM, &fields)).expect("it listens");
}

#[expect(clippy::disallowed_methods, reason = "a server that is none needs a port; 0 takes any")]
fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a port")
}

/// Runs a command on a server that does `speak` and then nothing; returns its error.
fn ask(args: &[&str], speak: fn(&mut TcpStream)) -> Value {
    let home = tempfile::tempdir().expect("temporary directory");
    let listener = listen();
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let mut command = program(home.path());
    command.args(args).args(["-o", "json", "--connect", &url, "--statement-timeout", "400ms"]);
    let running = Piped::start(command);
    let (mut client, _) = listener.accept().expect("it connects");
    speak(&mut client);
    let ran: Ran = running.finish();
    assert_eq!(ran.out, "", "there is no answer");
    ran.error(1)
}

#[test]
fn a_server_that_never_answers_is_a_deadline_and_no_broken_connection() {
    for args in [&["sql", "SELECT 1"][..], &["status"], &["dataset", "list"]] {
        let expected = json!({
            "kind": "DEADLINE",
            "message": "the time limit passed before the server answered",
            "hint": "give it longer with --statement-timeout",
            "ambiguous": false,
        });
        assert_eq!(ask(args, |_client| {}), expected, "{args:?}");
    }
}

#[test]
fn an_answer_that_stops_in_its_middle_is_not_waited_for() {
    for args in [&["sql", "SELECT 1"][..], &["status"], &["dataset", "show", "t"]] {
        let error = ask(args, begin_an_answer);
        assert_eq!((&error["kind"], &error["ambiguous"]), (&json!("DEADLINE"), &json!(false)));
    }
}

#[test]
fn a_write_that_a_server_never_answers_is_in_doubt() {
    for speak in [|_client: &mut TcpStream| {}, begin_an_answer] {
        let error = ask(&["seal", "t"], speak);
        assert_eq!((&error["kind"], &error["ambiguous"]), (&json!("DEADLINE"), &json!(true)));
    }
}
