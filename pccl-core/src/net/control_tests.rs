use std::cell::Cell;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::limits::MAX_CONTROL_FRAME_BYTES;
use crate::types::{Epoch, OpKey, Tag};
use crate::wire::message::PeerMessage;
use crate::wire::{decode_peer, encode_peer};

async fn pair() -> (Rc<ControlLink>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
    (ControlLink::new(ours.unwrap()), theirs.unwrap().0)
}

fn done(seq: u32) -> PeerMessage {
    PeerMessage::Done { key: OpKey { epoch: Epoch(1), tag: Tag(2), seq } }
}

async fn run(link: &ControlLink, hand_on: impl FnMut(PeerMessage, &mut FrameAssembler)) -> Option<String> {
    link.run(FrameAssembler::new(MAX_CONTROL_FRAME_BYTES), decode_peer, hand_on).await
}

#[tokio::test]
async fn messages_arrive_in_order_and_the_last_one_before_a_close_too() {
    let (a, b) = pair().await;
    let b = ControlLink::new(b);
    for seq in 0..20_000 {
        a.push(|out| encode_peer(&done(seq), out));
        a.flush();
    }
    a.close();
    let next = Cell::new(0);
    let reading = run(&b, |message, _| {
        assert_eq!(message, done(next.get()));
        next.set(next.get() + 1);
    });
    let (closed, ended) = tokio::join!(run(&a, |_, _| {}), reading);
    assert_eq!((closed, next.get()), (None, 20_000));
    assert!(ended.unwrap().contains("closed by the other end"));
}

#[tokio::test]
async fn whoever_does_not_read_is_let_go_within_bounded_memory() {
    let (a, _silent) = pair().await;
    let pushed = Cell::new(0usize);
    let pushing = async {
        while a.out.borrow().failed.is_none() {
            for _ in 0..1000 {
                a.push(|out| encode_peer(&done(0), out));
            }
            a.flush();
            pushed.set(pushed.get() + 1000);
            tokio::task::yield_now().await;
        }
    };
    let (reason, ()) = tokio::join!(run(&a, |_, _| {}), pushing);
    assert!(reason.unwrap().contains("does not read"));
    assert!(a.out.borrow().queue.len() <= 2 * MAX_CONTROL_QUEUE_BYTES);
}

#[tokio::test]
async fn garbage_ends_it_with_a_reason_and_closes_the_socket() {
    let (a, mut stranger) = pair().await;
    stranger.write_all(&[0; 4096]).await.unwrap();
    let reason = run(&a, |_, _| panic!("zeros are no message")).await;
    assert!(reason.unwrap().contains("damaged"));
    let mut rest = Vec::new();
    // Reset or closed: over in any case.
    let _ = stranger.read_to_end(&mut rest).await;
}

#[tokio::test]
async fn a_loop_that_stops_ends_its_connections_although_a_forked_child_has_them_too() {
    let (ours, mut theirs) = pair().await;
    let _of_the_child = socket2::SockRef::from(&ours.stream).try_clone().unwrap();
    assert!(tokio::time::timeout(Duration::ZERO, run(&ours, |_, _| {})).await.is_err());
    assert_eq!(theirs.read(&mut [0; 8]).await.unwrap(), 0);
}
