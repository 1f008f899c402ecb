use std::sync::Arc;

use super::*;
use crate::exec::EngineConfig;
use crate::net::congestion::Congestion;
use crate::net::options::DataOptions;
use crate::proto::peer::PeerConfig;
use crate::shell::node::NodeConfig;
use crate::shell::peer_loop::PeerLoopConfig;
use crate::shell::status::Status;
use crate::types::GroupId;
use crate::wire::message::Join;

pub(in crate::shell) fn peer_loop(master: String) -> Rc<PeerLoop> {
    let join = Join { peer: PeerId([7; 16]), group: GroupId(0), data_port: 0, announced: None, pool: 1 };
    let config = PeerLoopConfig {
        node: NodeConfig { peer: PeerConfig::new(join), engine: EngineConfig::default() },
        master,
        connect_timeout_ms: 10_000,
        data: DataOptions {
            congestion: Congestion::ByPath { paced: false },
            notsent_lowat_bytes: 0,
            send_buffer_bytes: 0,
            pacing: true,
        },
        listener: None,
    };
    PeerLoop::new(config, Arc::new(Status::default())).unwrap().0
}

#[test]
fn a_connection_of_an_earlier_membership_is_not_let_in() {
    let peer_loop = peer_loop("127.0.0.1:1".into());
    let me = peer_loop.node.borrow().id();
    let claim = Claim { me, peer: PeerId([1; 16]), generation: 0, token: LinkToken(1) };
    assert_eq!(peer_loop.judge(claim), Admission::NotYet);
    assert_eq!(peer_loop.judge(Claim { me: PeerId([8; 16]), ..claim }), Admission::No);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn connections_made_before_the_welcome_follow_the_silence_time_it_tells() {
    use crate::limits::DEFAULT_SILENCE_MS;
    use crate::wire::encode_master;
    use crate::wire::message::{Incarnation, MasterMessage, RunId};
    use tokio::io::AsyncWriteExt;

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let socket = socket2::SockRef::from(&stream).try_clone().unwrap();
    let patience = || socket.tcp_user_timeout().unwrap();
    let peer_loop = peer_loop(address.to_string());
    tokio::task::LocalSet::new()
        .run_until(async {
            let this = peer_loop.clone();
            let task = spawn_local(async move { this.speak_with_master(stream).await });
            while peer_loop.control.borrow().is_none() {
                tokio::task::yield_now().await;
            }
            assert_eq!(patience(), Some(Duration::from_millis(DEFAULT_SILENCE_MS.into())));
            let mut master = listener.accept().await.unwrap().0;
            let mut welcome = Vec::new();
            let message = MasterMessage::Welcome {
                incarnation: Incarnation(1),
                run: RunId(1),
                token: LinkToken(1),
                heartbeat_ms: 1_000,
                silence_ms: 30_000,
            };
            encode_master(&message, &mut welcome).unwrap();
            let news = peer_loop.news.notified();
            master.write_all(&welcome).await.unwrap();
            news.await;
            assert_eq!(patience(), Some(Duration::from_secs(30)));
            task.abort();
        })
        .await;
}
