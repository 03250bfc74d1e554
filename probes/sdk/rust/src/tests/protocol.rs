//! Each flush is counted exactly once, wherever the connection breaks. The agent is scripted, the flusher is real.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use perfwatch_model::Unit;
use perfwatch_wire::AgentMessage;
use perfwatch_wire::message::{Ack, ErrorCode, Flush, Welcome};

use super::{Agent, Rig};
use crate::{Server, Status};

/// Where the scripted agent cuts the connection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    BeforeWelcome,
    AfterWelcome,
    AfterFlushUncommitted,
    AfterFlushCommitted,
    AfterAck,
}

#[test]
fn nothing_is_lost_or_counted_twice_wherever_the_connection_breaks() {
    for cut in
        [Cut::BeforeWelcome, Cut::AfterWelcome, Cut::AfterFlushUncommitted, Cut::AfterFlushCommitted, Cut::AfterAck]
    {
        break_once(cut);
    }
}

fn break_once(cut: Cut) {
    let agent = Agent::new();
    let path = agent.path.clone();
    let rig = Rig::new(&path);
    let handle = rig.server.histogram("own", Unit::Count("{token}"));
    let committed = Mutex::new((0u64, 0u64)); // last seq, values counted
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let commit = |flush: &perfwatch_wire::message::Flush| {
                let mut committed = committed.lock().expect("no panic");
                assert_eq!(flush.seq, committed.0 + 1, "{cut:?}: numbers have no gap");
                committed.0 = flush.seq;
                committed.1 += flush.histograms.iter().flat_map(|histogram| &histogram.counts).sum::<u64>();
            };
            let mut first = agent.accept();
            if cut == Cut::BeforeWelcome {
                drop(first);
            } else {
                first.welcome(0);
                if cut != Cut::AfterWelcome {
                    let flush = first.flush();
                    if cut != Cut::AfterFlushUncommitted {
                        commit(&flush);
                    }
                    if cut == Cut::AfterAck {
                        first.ack(flush.seq);
                    }
                }
                drop(first);
            }
            // From here on the agent behaves, until two more flushes came.
            let mut peer = agent.accept();
            let last = committed.lock().expect("no panic").0;
            peer.welcome(last);
            while let Some(perfwatch_wire::message::client_message::Body::Flush(flush)) = peer.read() {
                commit(&flush);
                peer.ack(flush.seq);
            }
        });
        let mut flusher = rig.flusher();
        flusher.connect();
        for second in 1..=6u64 {
            handle.record(second);
            rig.at(second * 1_000);
            flusher.second();
            flusher.deliver();
            if second == 1 && cut == Cut::AfterFlushUncommitted {
                // The agent is gone; give the flusher the chance to notice it while it has a frozen flush.
                flusher.hear_all();
            }
        }
        rig.at(7_000);
        assert!(flush_until_received(&mut flusher), "{cut:?}");
    });
    assert_eq!(committed.into_inner().expect("no panic").1, 6, "{cut:?}: each value once");
}

/// The manual clock stands still, so the flusher's own deadline never passes; the peer decides.
fn flush_until_received(flusher: &mut crate::flusher::Flusher) -> bool {
    (0..5).any(|_| flusher.flush_everything())
}

#[test]
fn the_same_bytes_are_resent_under_the_same_number() {
    let agent = Agent::new();
    let rig = Rig::new(&agent.path);
    let mut flusher = rig.flusher();
    std::thread::scope(|scope| {
        let script = scope.spawn(|| {
            let mut peer = agent.accept();
            peer.welcome(0);
            let first = peer.flush();
            let session = peer.hello.session.clone();
            drop(peer);
            let mut peer = agent.accept();
            assert_eq!(peer.hello.session, session);
            peer.welcome(0);
            let again = peer.flush();
            assert_eq!(first, again);
            peer.ack(again.seq);
            let next = peer.flush();
            assert_eq!((next.seq, next.start_ns), (2, first.end_ns));
            assert_eq!(next.requests_started, 2, "what happened during the outage waited");
            peer.ack(2);
            peer
        });
        flusher.connect();
        rig.server.request().finish();
        rig.at(1_000);
        flusher.second();
        flusher.deliver();
        rig.server.request().finish();
        // The peer closes; whole seconds pass until the flusher has noticed it, dialled anew and sent the same again.
        rig.server.request().finish();
        rig.at(2_000);
        assert!(flush_until_received(&mut flusher));
        drop(script.join().expect("the script holds"));
    });
}

#[test]
fn an_agent_that_does_not_acknowledge_gets_no_second_flush() {
    let agent = Agent::new();
    let rig = Rig::new(&agent.path);
    let mut flusher = rig.flusher();
    std::thread::scope(|scope| {
        let script = scope.spawn(|| {
            let mut peer = agent.accept();
            peer.welcome(0);
            assert_eq!(peer.flush().seq, 1);
            peer
        });
        flusher.connect();
        for second in 1..=3 {
            rig.at(second * 1_000);
            flusher.second();
            flusher.deliver();
        }
        let mut peer = script.join().expect("the script holds");
        peer.ack(1);
        // The receipt is in the socket now; the fourth second takes it in and sends the rest as one.
        rig.at(4_000);
        flusher.second();
        flusher.deliver();
        let rest = peer.flush();
        assert_eq!((rest.seq, rest.end_ns - rest.start_ns), (2, 3_000_000_000));
    });
}

#[test]
fn a_refusal_is_told_and_not_repeated_at_once() {
    let agent = Agent::new();
    let rig = Rig::new(&agent.path);
    let mut flusher = rig.flusher();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut peer = agent.accept();
            peer.say(&ErrorCode::Protocol.with("speak version 9"));
        });
        flusher.connect();
    });
    assert_eq!(rig.server.status(), Status::Refused("speak version 9".into()));
    agent.listener.set_nonblocking(true).expect("a valid listener");
    rig.at(1_000);
    flusher.second();
    assert!(agent.listener.accept().is_err(), "it waits before it dials again");
}

#[test]
fn a_socket_without_permission_is_reported_once() {
    use std::os::unix::fs::PermissionsExt as _;
    if rustix::process::geteuid().is_root() {
        return; // Nothing is forbidden to root.
    }
    let agent = Agent::new();
    std::fs::set_permissions(&agent.path, std::fs::Permissions::from_mode(0o000)).expect("ours");
    let told = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&told);
    let server = Server::builder("denied")
        .socket(&agent.path)
        .on_status(move |status| {
            counter.fetch_add(usize::from(matches!(status, Status::PermissionDenied(_))), Ordering::SeqCst);
        })
        .start();
    assert!(!server.flush_now());
    assert!(!server.flush_now());
    assert_eq!(told.load(Ordering::SeqCst), 1);
}

#[test]
fn a_started_server_delivers_everything_at_its_close() {
    let agent = Agent::new();
    let server = Server::builder("real").instance("one").socket(&agent.path).max_batch_size(4).config("threads", "2");
    let server = server.start();
    let script = std::thread::spawn(move || {
        let mut peer = agent.accept();
        assert_eq!((peer.hello.service.as_str(), peer.hello.instance.as_str()), ("real", "one"));
        assert_eq!((peer.hello.max_batch_size, peer.hello.config[0].key.as_str()), (4, "threads"));
        peer.welcome(0);
        let mut completed = 0;
        while let Some(perfwatch_wire::message::client_message::Body::Flush(flush)) = peer.read() {
            completed += flush.requests_completed;
            assert!(flush.cpu_ns.is_some() && flush.threads >= 1 && !flush.cpus_allowed.is_empty());
            peer.ack(flush.seq);
        }
        completed
    });
    for _ in 0..1_000 {
        server.request().finish();
    }
    assert!(server.close());
    assert_eq!(script.join().expect("the script holds"), 1_000);
}

#[test]
fn a_listener_that_panics_does_not_end_the_flusher() {
    let agent = Agent::new();
    let server =
        Server::builder("rude").socket(&agent.path).on_status(|status| panic!("on purpose: {status:?}")).start();
    let script = std::thread::spawn(move || {
        let mut peer = agent.accept();
        peer.welcome(0);
        let flush = peer.flush();
        peer.ack(flush.seq);
        flush.requests_completed
    });
    server.request().finish();
    assert!(server.flush_now());
    assert_eq!(script.join().expect("the script holds"), 1);
}

#[test]
fn without_an_agent_everything_still_works() {
    let server = Server::builder("alone").socket("/nonexistent/probe.sock").start();
    server.request().finish();
    assert!(!server.flush_now());
    assert_eq!(server.status(), Status::NoAgent);
}

#[test]
fn an_agent_that_died_with_what_it_acknowledged_gets_it_again_once() {
    let agent = Agent::new();
    let rig = Rig::new(&agent.path);
    let handle = rig.server.histogram("own", Unit::Count("{token}"));
    let mut flusher = rig.flusher();
    std::thread::scope(|scope| {
        let script = scope.spawn(|| {
            // The first agent makes the first flush durable, and acknowledges two more from memory.
            let mut peer = agent.accept();
            peer.welcome(0);
            for durable_seq in [Some(1), None, Some(1)] {
                let seq = peer.flush().seq;
                peer.say(&AgentMessage::from(Ack { seq, durable_seq }));
            }
            drop(peer);
            // The next one knows what was durable.
            let mut peer = agent.accept();
            peer.say(&AgentMessage::from(Welcome {
                protocol: 1,
                last_committed_seq: 1,
                max_series: 256,
                catch_up: true,
                ..Welcome::default()
            }));
            let all = peer.flush();
            peer.say(&AgentMessage::from(Ack { seq: all.seq, durable_seq: Some(all.seq) }));
            let next = peer.flush();
            peer.ack(next.seq);
            while peer.read().is_some() {}
            (all, next)
        });
        flusher.connect();
        for second in 1..=3 {
            handle.record(second);
            rig.server.request().finish();
            rig.at(second * 1_000);
            assert!(flusher.flush_everything());
        }
        handle.record(4);
        rig.at(4_000);
        assert!(flush_until_received(&mut flusher));
        handle.record(5);
        rig.at(5_000);
        assert!(flusher.flush_everything());
        drop(flusher);
        let (all, next) = script.join().expect("the script holds");
        assert_eq!((all.covers_from, all.start_ns), (Some(1), super::EPOCH + 1_000 * super::MS));
        let own = |flush: &Flush| flush.histograms.iter().find(|known| known.name == "own").map(|own| own.sum);
        assert_eq!((own(&all), all.requests_completed), (Some(2 + 3 + 4), 2));
        assert!(all.slots.is_empty() && all.slots_lost >= 20, "totals only");
        assert_eq!((next.covers_from, own(&next)), (None, Some(5)));
    });
}

#[test]
fn an_agent_from_before_is_understood_and_one_from_the_future_is_told_of() {
    use perfwatch_wire::vectors::bytes as vector;
    let agent = Agent::new();
    let rig = Rig::new(&agent.path);
    let mut flusher = rig.flusher();
    std::thread::scope(|scope| {
        let script = scope.spawn(|| {
            let mut old = agent.accept();
            old.send(&vector("welcome-0.1.0"));
            let flush = old.flush();
            assert_eq!(flush.seq, 1);
            old.send(&vector("agent-message-from-the-future"));
            old.send(&vector("ack-0.1.0"));
            while old.read().is_some() {}
            let mut newer = agent.accept();
            newer.send(&vector("welcome-from-the-future"));
            assert_eq!(newer.flush().seq, 2);
            newer.say(&AgentMessage::from(Ack { seq: 2, durable_seq: None }));
            while newer.read().is_some() {}
            let mut newer = agent.accept();
            newer.say(&AgentMessage::from(Welcome { protocol: 2, ..Welcome::default() }));
        });
        flusher.connect();
        rig.at(1_000);
        assert!(flusher.flush_everything());
        assert!(matches!(rig.server.status(), Status::Connected(_)));
        flusher.hang_up();
        flusher.connect();
        rig.at(2_000);
        assert!(flusher.flush_everything(), "an agent that says more than it knows");
        flusher.hang_up();
        flusher.connect();
        script.join().expect("the script holds");
    });
    let Status::Refused(words) = rig.server.status() else { panic!("it cannot be understood") };
    assert!(words.contains("protocol 2"), "{words}");
}
