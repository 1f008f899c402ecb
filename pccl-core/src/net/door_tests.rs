use std::cell::RefCell;
use std::time::Instant;

use tokio::task::LocalSet;

use super::*;
use crate::limits::MAX_UNKNOWN_CONNECTIONS;
use crate::net::bind::bind;

type Seen = Rc<RefCell<Vec<Visitor>>>;

/// Runs a test beside an open door.
async fn with_door<F: Future<Output = ()>>(test: impl FnOnce(SocketAddr, Seen, Crowd) -> F) {
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let door = Door::new(listener, "test port").unwrap();
    let (seen, crowd) = (Seen::default(), door.crowd.clone());
    let visitors = seen.clone();
    LocalSet::new()
        .run_until(async move {
            let serving = tokio::task::spawn_local(door.serve(move |v| visitors.borrow_mut().push(v)));
            test(address, seen, crowd).await;
            serving.abort();
        })
        .await;
}

async fn until(mut met: impl FnMut() -> bool) {
    while !met() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Everything the other end sends until it closes.
async fn rest_of(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut bytes).await;
    bytes
}

#[tokio::test]
async fn a_hello_in_small_parts_is_a_visitor() {
    with_door(|address, seen, _| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        for part in Hello::Control.encode().chunks(5) {
            stream.write_all(part).await.unwrap();
            tokio::task::yield_now().await;
        }
        until(|| !seen.borrow().is_empty()).await;
        let visitor = seen.borrow_mut().pop().unwrap();
        assert_eq!((visitor.hello, visitor.from), (Hello::Control, stream.local_addr().unwrap()));
    })
    .await;
}

#[tokio::test]
async fn zeros_and_browsers_are_closed_at_once() {
    with_door(|address, seen, _| async move {
        for garbage in [&[0; 4096][..], b"GET / HTTP/1.1\r\n\r\n"] {
            let start = Instant::now();
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(garbage).await.unwrap();
            assert_eq!(rest_of(&mut stream).await, b"");
            assert!(start.elapsed() < Duration::from_millis(UNKNOWN_CONNECTION_TIMEOUT_MS / 2));
        }
        assert!(seen.borrow().is_empty());
    })
    .await;
}

#[tokio::test]
async fn another_version_is_told_ours() {
    with_door(|address, seen, _| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut hello = Hello::Control.encode();
        hello[4] = 9;
        stream.write_all(&hello).await.unwrap();
        let mut answer = [0; crate::wire::hello::HELLO_ANSWER_BYTES];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(HelloAnswer::decode(&answer).unwrap().status, HelloStatus::WrongVersion);
        assert!(seen.borrow().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_thousand_silent_connections_do_not_keep_a_visitor_out() {
    with_door(|address, seen, crowd| async move {
        let mut silent = Vec::new();
        for _ in 0..1000 {
            // Descriptors may be scarce where the test runs: the flood keeps as many as the door does.
            silent.push(TcpStream::connect(address).await.unwrap());
            if silent.len() > 2 * MAX_UNKNOWN_CONNECTIONS {
                silent.remove(0);
            }
            assert!(crowd.len() <= MAX_UNKNOWN_CONNECTIONS);
        }
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&Hello::Control.encode()).await.unwrap();
        until(|| !seen.borrow().is_empty()).await;
        // The oldest still held by us was pushed out by the door.
        assert_eq!(rest_of(&mut silent[0]).await, b"");
    })
    .await;
}

#[tokio::test]
async fn a_silent_connection_is_closed_in_time() {
    with_door(|address, _, crowd| async move {
        let start = Instant::now();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"Pc").await.unwrap();
        assert_eq!(rest_of(&mut stream).await, b"");
        assert!(start.elapsed() < Duration::from_millis(2 * UNKNOWN_CONNECTION_TIMEOUT_MS));
        until(|| crowd.is_empty()).await;
    })
    .await;
}

#[tokio::test]
async fn a_port_is_closed_although_a_forked_child_has_it_too() {
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let _of_the_child = listener.try_clone().unwrap();
    drop(Door::new(listener, "test port").unwrap());
    assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}
