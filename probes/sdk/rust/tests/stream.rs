//! A stream of tokens records itself.

mod support;

use perfwatch_sdk::{Server, Stage};
use support::{sum, values};
use tokio_stream::StreamExt as _;

#[test]
fn a_stream_ends_its_request_as_it_ends_itself() {
    let agent = support::Agent::start(|| ());
    let server = Server::builder("streaming").socket(&agent.socket).start();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let begin = || {
        let mut request = server.request();
        request.enter(Stage::Decode);
        request
    };
    runtime.block_on(async {
        let whole = begin().stream(tokio_stream::iter((0..5).map(Ok::<_, ()>)));
        assert_eq!(whole.collect::<Vec<_>>().await.len(), 5);
        let broken = begin().stream(tokio_stream::iter([Ok(1), Ok(2), Err("out of memory")]));
        assert_eq!(broken.collect::<Vec<_>>().await.len(), 3);
        let mut left = begin().stream(tokio_stream::iter((0..9).map(Ok::<_, ()>)));
        left.next().await.expect("there are nine").expect("none fails");
        drop(left);
    });
    assert!(server.close());
    let flushes = agent.flushes();
    let sum = |field| sum(&flushes, field);
    assert_eq!(sum(|f| f.requests_started), 3);
    assert_eq!(sum(|f| f.requests_completed), 1);
    assert_eq!(sum(|f| f.requests_failed), 1);
    assert_eq!((sum(|f| f.requests_cancelled), sum(|f| f.requests_abandoned)), (1, 0));
    assert_eq!(sum(|f| f.generated_tokens), 5 + 2 + 1);
    let values = |name| values(&flushes, name, None);
    assert_eq!((values("time_to_first_token"), values("inter_token")), (3, 4 + 1));
}
