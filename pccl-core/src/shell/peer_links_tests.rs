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

fn peer_loop(master: String) -> Rc<PeerLoop> {
    let join = Join { peer: PeerId([7; 16]), group: GroupId(0), data_port: 0, announced: None, pool: 1 };
    let config = PeerLoopConfig {
        node: NodeConfig { peer: PeerConfig::new(join), engine: EngineConfig::default() },
        master,
        connect_timeout_ms: 10_000,
        data: DataOptions {
            congestion: Congestion::ByPath { paced: false },
            notsent_lowat_bytes: 0,
            send_buffer_bytes: 0,
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
