//! Sessions that end, and commands that the program holds.

use alluvium_client::{Error, SessionId, WriteOptions};
use alluvium_types::limits::SESSION_WINDOW;

use crate::corners::{assert_one_command, client, lost, rows, within};
use crate::scripted::{Server, Step, World, unavailable};

fn sessions(world: &World) -> usize {
    world.calls("OpenSession").len()
}

#[tokio::test]
async fn a_session_that_expired_before_a_command_is_renewed_and_the_command_sent_once_more() {
    let world = World::default();
    let node = Server::start(1, &world);
    let client = client(&[&node]);
    client.append("d", rows(1), WriteOptions::default()).await.expect("answered");
    let SessionId(first) = client.session().expect("it is open");
    world.end_session(first);
    client.append("d", rows(2), WriteOptions::default()).await.expect("under a new session");
    assert_eq!((world.effects(), sessions(&world)), (2, 2));
    let tries = world.calls("Append");
    assert_eq!(tries[1].number, Some((first, 2)));
    assert_ne!(tries[2].number.map(|number| number.0), Some(first));
}

#[tokio::test]
async fn a_session_that_expires_under_a_retry_leaves_the_outcome_unknown_and_nothing_is_sent_again()
{
    let world = World::default();
    let (first, second) = (Server::start(1, &world), Server::start(2, &world));
    let client = client(&[&first, &second]);
    client.append("d", rows(1), WriteOptions::default()).await.expect("answered");
    let SessionId(session) = client.session().expect("it is open");
    for server in [&first, &second] {
        let expired = crate::scripted::refusal(tonic::Code::OutOfRange, "OUT_OF_RANGE", &[]);
        server.then([Step::DoAndSay(lost()), Step::Say(expired)]);
    }
    // Whichever is asked first loses its reply, and so does the other one; then both say that the session is over.
    let error = client.append("d", rows(2), WriteOptions::default()).await.expect_err("unknown");
    let Error::Ambiguous { number: Some(number), pending: None, tries: 3, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(number.id, SessionId(session));
    assert_one_command(&world.calls("Append")[1..], 3);
    assert_eq!((world.effects(), sessions(&world)), (2, 1));
    world.end_session(session);
    drop((first, second));
}

#[tokio::test]
async fn a_session_is_not_renewed_while_the_program_holds_a_command_of_it() {
    let world = World::default();
    let node = Server::start(1, &world);
    let client = client(&[&node]);
    node.then((0..40).map(|_| Step::Say(unavailable(None, &[]))));
    let error = client.append("d", rows(1), within(200)).await.expect_err("nobody leads");
    let pending = error.into_pending().expect("it can be resumed");
    let session = pending.number().id;
    world.end_session(session.0);
    let mut found = Vec::new();
    // The steps that are left are used up first.
    for _ in 0..40 {
        let error =
            client.append("d", rows(2), within(2_000)).await.expect_err("the session is over");
        let is_over = matches!(error, Error::SessionOver { pending: 1, .. });
        found.push(error);
        if is_over {
            break;
        }
        found.clear();
    }
    assert!(matches!(found.last(), Some(Error::SessionOver { .. })), "{found:?}");
    assert_eq!(sessions(&world), 1);
    let error = pending.resume(None).await.expect_err("nobody can tell any more");
    assert!(matches!(&error, Error::Ambiguous { pending: None, .. }), "{error:?}");
    client.append("d", rows(3), WriteOptions::default()).await.expect("a new session");
    assert_eq!((world.effects(), sessions(&world)), (1, 2));
    assert_ne!(client.session(), Some(session));
}

#[tokio::test]
async fn a_command_that_is_given_up_is_answered_when_it_is_resumed() {
    let world = World::default();
    let node = Server::start(1, &world);
    let client = client(&[&node]);
    client.append("d", rows(0), WriteOptions::default()).await.expect("answered");
    node.then([Step::DoAndSay(lost()), Step::Hang]);
    let error = client.append("d", rows(1), within(400)).await.expect_err("it hangs");
    let Error::Ambiguous { pending: Some(pending), .. } = error else { panic!("{error:?}") };
    let number = pending.number();
    let answer = pending.resume(None).await.expect("the first answer");
    assert_eq!((world.effects(), answer.index()), (2, client.seen()));
    let tries = world.calls("Append");
    assert_one_command(&tries[1..], 3);
    assert_eq!(tries[1].number, Some((number.id.0, number.sequence.0)));
}

#[tokio::test]
async fn no_write_pushes_a_held_command_out_of_what_the_server_remembers() {
    let world = World::default();
    let node = Server::start(1, &world);
    let client = client(&[&node]);
    node.then([Step::DoAndSay(lost()), Step::Hang]);
    let error = client.append("d", rows(0), within(400)).await.expect_err("it hangs");
    let pending = error.into_pending().expect("it can be resumed");
    for _ in 1..SESSION_WINDOW {
        client.drop_dataset("d", WriteOptions::default()).await.expect("within the window");
    }
    let error = client.drop_dataset("d", WriteOptions::default()).await.expect_err("full");
    assert!(matches!(error, Error::WindowFull { .. }) && !error.is_ambiguous(), "{error:?}");
    pending.resume(None).await.expect("still remembered");
    client.drop_dataset("d", WriteOptions::default()).await.expect("the window moves on");
    assert_eq!(world.effects(), SESSION_WINDOW + 1);
}

#[tokio::test]
async fn a_write_whose_future_is_dropped_holds_nothing_up() {
    let world = World::default();
    let node = Server::start(1, &world);
    let client = client(&[&node]);
    client.append("d", rows(0), WriteOptions::default()).await.expect("answered");
    node.then([Step::Hang]);
    let hanging = client.append("d", rows(1), WriteOptions::default());
    let cut = tokio::time::timeout(std::time::Duration::from_millis(100), hanging).await;
    cut.expect_err("it hangs");
    world.end_session(client.session().expect("it is open").0);
    client.append("d", rows(2), WriteOptions::default()).await.expect("under a new session");
    assert_eq!(sessions(&world), 2);
}
