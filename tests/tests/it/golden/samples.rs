//! One value of each kind that travels, with its bytes.

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use pccl_core::types::*;
use pccl_core::wire::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, Trailer};
use pccl_core::wire::hello::{Hello, HelloAnswer, HelloStatus};
use pccl_core::wire::message::*;
use pccl_core::wire::state_ask::{STATE_ASK_BYTES, StateAsk, Wanted};
use pccl_core::wire::{
    CONTROL_HEADER_BYTES, ControlHeader, decode_master, decode_peer, encode_master, encode_peer,
};

/// What bytes say, and the bytes they would be written as.
pub type Reading = Result<(String, Vec<u8>), String>;

pub struct Sample {
    /// The golden file's name; families share a prefix.
    pub name: String,
    /// The name in the code.
    pub title: String,
    /// The number on the wire that tells it from others of its family.
    pub code: u8,
    pub about: String,
    pub bytes: Vec<u8>,
    pub read: fn(&[u8]) -> Reading,
}

fn sample(family: &str, value: &impl Debug, code: u8, bytes: Vec<u8>, read: fn(&[u8]) -> Reading) -> Sample {
    let about = format!("{value:?}");
    let title: String = about.chars().take_while(char::is_ascii_alphanumeric).collect();
    Sample { name: named(family, &title), title, code, about, bytes, read }
}

/// `LinkUp` of the family `peer` is `peer-link-up`.
fn named(family: &str, title: &str) -> String {
    let mut name = family.to_string();
    for letter in title.chars() {
        if letter.is_ascii_uppercase() {
            name.push('-');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<&[u8; N], String> {
    bytes.try_into().map_err(|_| format!("{} bytes, not {N}", bytes.len()))
}

fn body_of(frame: &[u8]) -> Result<&[u8], String> {
    let (header, body) = frame.split_first_chunk::<CONTROL_HEADER_BYTES>().ok_or("no header")?;
    let header = ControlHeader::decode(header, frame.len()).map_err(|e| e.to_string())?;
    header.check_body(body).map_err(|e| e.to_string())?;
    Ok(body)
}

fn from_peer(message: PeerMessage) -> Sample {
    let mut bytes = Vec::new();
    encode_peer(&message, &mut bytes).unwrap();
    sample("peer", &message, bytes[CONTROL_HEADER_BYTES], bytes, |bytes| {
        let message = decode_peer(body_of(bytes)?).map_err(|e| e.to_string())?;
        let mut again = Vec::new();
        encode_peer(&message, &mut again).map_err(|e| e.to_string())?;
        Ok((format!("{message:?}"), again))
    })
}

fn from_master(message: MasterMessage) -> Sample {
    let mut bytes = Vec::new();
    encode_master(&message, &mut bytes).unwrap();
    sample("master", &message, bytes[CONTROL_HEADER_BYTES], bytes, |bytes| {
        let message = decode_master(body_of(bytes)?).map_err(|e| e.to_string())?;
        let mut again = Vec::new();
        encode_master(&message, &mut again).map_err(|e| e.to_string())?;
        Ok((format!("{message:?}"), again))
    })
}

fn hello(hello: Hello) -> Sample {
    let bytes = hello.encode();
    sample("hello", &hello, bytes[6], bytes.to_vec(), |bytes| {
        let hello = Hello::decode(fixed(bytes)?).map_err(|e| e.to_string())?;
        Ok((format!("{hello:?}"), hello.encode().to_vec()))
    })
}

fn answer(status: HelloStatus) -> Sample {
    let bytes = HelloAnswer { status }.encode().to_vec();
    sample("answer", &status, status as u8, bytes, |bytes| {
        let answer = HelloAnswer::decode(fixed(bytes)?).map_err(|e| e.to_string())?;
        Ok((format!("{:?}", answer.status), answer.encode().to_vec()))
    })
}

fn frame(kind: FrameKind, chunk: u32, piece: u32, offset: u32, len: u32) -> Sample {
    let digest = if kind.is_state() || kind == FrameKind::Probe { 0 } else { 0xD16E_5700 };
    let key = match kind {
        FrameKind::Probe => OpKey { seq: 0, tag: Tag(0), ..key() },
        kind if kind.is_state() => OpKey { seq: 0, ..key() },
        _ => key(),
    };
    let header = FrameHeader { kind, key, digest, chunk, piece, offset, len };
    let bytes = header.encode();
    let mut sample = sample("frame", &header, kind as u8, bytes.to_vec(), |bytes| {
        let header = FrameHeader::decode(fixed::<FRAME_HEADER_BYTES>(bytes)?).map_err(|e| e.to_string())?;
        Ok((format!("{header:?}"), header.encode().to_vec()))
    });
    sample.title = format!("{kind:?}");
    sample.name = named("frame", &sample.title);
    sample
}

fn ask() -> Sample {
    let ask = StateAsk { wanted: Wanted::BlockDigests, tensor: 7, first: 8192, count: 4096 };
    let mut sample = sample("ask", &ask, 0, ask.encode().to_vec(), |bytes| {
        let ask = StateAsk::decode(fixed::<STATE_ASK_BYTES>(bytes)?).map_err(|e| e.to_string())?;
        Ok((format!("{ask:?}"), ask.encode().to_vec()))
    });
    sample.name = "ask-of-state".to_owned();
    sample
}

fn trailer(name: &str, void: bool) -> Sample {
    let trailer = Trailer { crc32: 0xCBF4_3926, void };
    let mut sample = sample("trailer", &trailer, 0, trailer.encode().to_vec(), |bytes| {
        let trailer = Trailer::decode(fixed(bytes)?).map_err(|e| e.to_string())?;
        Ok((format!("{trailer:?}"), trailer.encode().to_vec()))
    });
    sample.name = format!("trailer-{name}");
    sample
}

/// Bytes that count up, so that their order shows.
fn peer(first: u8) -> PeerId {
    PeerId(std::array::from_fn(|i| first + i as u8))
}

fn key() -> OpKey {
    OpKey { epoch: Epoch(0x0102_0304_0506_0708), tag: Tag(0x1112_1314_1516_1718), seq: 0x2122_2324 }
}

fn descriptor() -> OpDescriptor {
    OpDescriptor {
        count: 0x1_0000_0001,
        dtype: DType::BF16,
        op: ReduceOp::Avg,
        quantization: Quantization::MinMax(DType::U8),
    }
}

fn join() -> Join {
    let announced = Some((IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 40_000));
    Join { peer: peer(0xA0), group: GroupId(3), data_port: 50_000, announced, pool: 8 }
}

fn committed() -> Verdict {
    let world = WorldSizes { global: 5, groups: 2, largest_group: 3 };
    Verdict::Committed { world, peers_pending: 1 }
}

fn epoch_info() -> EpochInfo {
    let first = GroupInfo {
        group: GroupId(0),
        since: Epoch(6),
        order: vec![peer(0xA0), peer(0xB0), peer(0xC0)],
        unlinked: vec![(0, 2)],
        rtt_us: 1 << 17,
        planned: Some(Arc::new(planned())),
    };
    let second = GroupInfo {
        group: GroupId(3),
        since: Epoch(7),
        order: vec![peer(0xD0)],
        unlinked: Vec::new(),
        rtt_us: 0,
        planned: None,
    };
    EpochInfo {
        epoch: Epoch(7),
        phase_seq: 11,
        schedule: ScheduleChoice::Mesh,
        piece_bytes: 256 << 10,
        groups: vec![first, second],
    }
}

/// Ranks 0 and 2 have no link: chains and stars with rank 1 in the middle.
fn planned() -> Planned {
    let tree = |owner, share, reduce: [u16; 3], broadcast: [u16; 3]| PackedTree {
        owner,
        share,
        reduce_parents: reduce.to_vec(),
        broadcast_parents: broadcast.to_vec(),
    };
    let forest = PlannedForest {
        kind: ForestKind::Packed,
        cost: Cost { latency_us: 0x0102_0304, ps_per_byte: 0x1112_1314_1516_1718 },
        trees: vec![tree(0, 0x2122_2324, [0, 0, 1], [0, 0, 1]), tree(1, 3, [1, 1, 1], [1, 1, 1])],
    };
    let ring = Cost { latency_us: 5, ps_per_byte: 6 };
    Planned { ring, mesh: Cost::NEVER, forest: Some(forest) }
}

fn digest(first: u8) -> Digest {
    Digest(peer(first).0)
}

fn offer() -> Offer {
    Offer {
        revision: 42,
        strategy: SyncStrategy::SendOnly,
        left_behind: true,
        tensors: 3,
        size_bytes: 1 << 33,
        keys: digest(0x10),
        content: digest(0x20),
        full: digest(0x30),
    }
}

fn tensor_key() -> TensorKey {
    TensorKey { name: "layer.0.weight".into(), dtype: DType::BF16, count: 0x1_0000_0001, may_differ: true }
}

fn election() -> Election {
    let sources = vec![Source { peer: peer(0xA0), full: true }, Source { peer: peer(0xB0), full: false }];
    Election {
        number: SyncNumber(9),
        revision: 42,
        content: digest(0x20),
        full: digest(0x30),
        winner: peer(0xA0),
        sources,
    }
}

fn resume() -> Resume {
    Resume {
        join: Join { announced: None, ..join() },
        run: RunId(0x31),
        incarnation: Incarnation(0x32),
        epoch: epoch_info(),
        since_before: Epoch(5),
        aborted: vec![(Tag(1), 2)],
        ops: vec![ResumedOp { key: key(), descriptor: descriptor(), done: true }],
        verdicts: vec![(key(), committed()), (key(), Verdict::Mismatched { text: "no".into() })],
        phase_seq: 11,
        phase: Some(PhaseCall::ArePeersPending),
        phase_last: Some(PhaseOutcome::Pending { peers_pending: 2 }),
        sync_number: SyncNumber(9),
        sync: Some(ResumedSync { offer: offer(), elected: Some((SyncNumber(9), 42)), done: true }),
        sync_last: Some((SyncNumber(8), SyncOutcome::Aborted { text: "a".to_owned() })),
        synced: Some((SyncNumber(7), 41)),
        linked: vec![ResumedLink { peer: peer(0xB0), generation: 4, rtt_us: 80_123 }],
    }
}

fn probe_order() -> ProbeOrder {
    ProbeOrder { number: 0x1_0000_0001, round: 3, rounds: 7, to: vec![peer(0xB0)], from: vec![peer(0xC0)] }
}

fn probe_report() -> ProbeReport {
    ProbeReport {
        number: 0x1_0000_0001,
        heard: vec![Heard { from: peer(0xC0), bytes_per_second: 0x1_0000_0002 }],
        round_trips: vec![RoundTrip { to: peer(0xB0), rtt_us: 80_123 }],
        sent: vec![Sent { to: peer(0xB0), bytes_per_second: 0x1_0000_0003 }],
    }
}

fn run_report() -> RunReport {
    let addresses = vec![(peer(0xA0), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)))];
    RunReport { epoch: epoch_info(), peers_pending: 2, addresses, rows: 3, rows_left_out: 4 }
}

fn figure_row() -> FigureRow {
    FigureRow {
        group: GroupId(3),
        peer: peer(0xA0),
        up_bytes_per_second: 0x1_0000_0001,
        down_bytes_per_second: 0,
        bytes_per_second: vec![0, 0x1_0000_0002],
        rtt_us: vec![0, 80_123],
        age_ms: 5_000,
    }
}

fn peer_address() -> PeerAddress {
    let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    let addresses =
        vec![SocketAddr::from((Ipv4Addr::new(192, 0, 2, 7), 50_000)), SocketAddr::from((v6, 50_001))];
    PeerAddress { peer: peer(0xB0), generation: 4, addresses }
}

pub fn samples() -> Vec<Sample> {
    let mut all = peer_samples();
    all.extend(master_samples());
    all.push(hello(Hello::Control));
    let token = LinkToken(0x4041_4243_4445_4647_4849_4A4B_4C4D_4E4F);
    all.push(hello(Hello::Data { from: peer(0xA0), to: peer(0xB0), token, generation: 4 }));
    all.extend(HelloStatus::ALL.map(answer));
    all.push(frame(FrameKind::OpGrant, 0, 0, 0, 0));
    all.push(frame(FrameKind::PieceGrant, 3, 4, 0, 0));
    all.push(frame(FrameKind::Reduce, 3, 4, 65_536, 65_536));
    all.push(frame(FrameKind::Broadcast, 3, 4, 131_072, 24));
    all.push(frame(FrameKind::Eager, 0, 0, 0, 4096));
    all.push(frame(FrameKind::StateAsk, 0, 0, 0, 48));
    all.push(frame(FrameKind::StateDigests, 4096, 0, 0, 65_536));
    all.push(frame(FrameKind::StateBlock, 3, 0, 65_536, 65_536));
    all.push(frame(FrameKind::Probe, 2, 0, 0, 65_536));
    all.push(ask());
    all.push(trailer("sound", false));
    all.push(trailer("void", true));
    all
}

fn peer_samples() -> Vec<Sample> {
    let (other, reason) = (peer(0xB0), "connection reset".to_string());
    let messages = [
        PeerMessage::Join(join()),
        PeerMessage::Resume(Box::new(resume())),
        PeerMessage::LinkUp { peer: other, generation: 4, rtt_us: 80_123 },
        PeerMessage::LinkFailed { peer: other, generation: 4, reason: reason.clone() },
        PeerMessage::LinkDown { peer: other, generation: 4, reason },
        PeerMessage::Prepared { epoch: Epoch(7) },
        PeerMessage::Phase { seq: 11, call: PhaseCall::UpdateTopology },
        PeerMessage::Announce { key: key(), descriptor: descriptor() },
        PeerMessage::Done { key: key() },
        PeerMessage::Blocked { key: key(), alone: true },
        PeerMessage::Heartbeat,
        PeerMessage::Leave,
        PeerMessage::SyncOffer { offer: offer() },
        PeerMessage::SyncKeys { first: 2, last: true, keys: vec![tensor_key()] },
        PeerMessage::SyncDone {
            number: SyncNumber(9),
            failed: Some(FetchFailure::NoSource { text: "no source is left".into() }),
        },
        PeerMessage::Probed { report: probe_report() },
        PeerMessage::Inspect,
        PeerMessage::Observed { heard: vec![Heard { from: peer(0xC0), bytes_per_second: 0x1_0000_0002 }] },
    ];
    messages.map(from_peer).into()
}

fn master_samples() -> Vec<Sample> {
    let text = "peer a0a1a2a3 is silent – né".to_string();
    let messages = [
        MasterMessage::Welcome {
            incarnation: Incarnation(0x32),
            run: RunId(0x31),
            token: LinkToken(0x4041_4243_4445_4647_4849_4A4B_4C4D_4E4F),
            heartbeat_ms: 500,
            silence_ms: 3000,
        },
        MasterMessage::Refused { fatal: true, text: text.clone() },
        MasterMessage::Pending,
        MasterMessage::LinkTo { peers: vec![peer_address()] },
        MasterMessage::Unlink { peer: peer(0xB0) },
        MasterMessage::Prepare { epoch: Epoch(7) },
        MasterMessage::NewEpoch {
            info: epoch_info(),
            aborted: vec![(Tag(1), 2), (Tag(3), 0)],
            cause: EpochCause::Lost { text: text.clone() },
        },
        MasterMessage::PhaseDone { seq: 11, call: PhaseCall::UpdateTopology, outcome: PhaseOutcome::Updated },
        MasterMessage::Verdict { key: key(), verdict: committed() },
        MasterMessage::Kicked { text: text.clone() },
        MasterMessage::Probe { order: probe_order() },
        MasterMessage::Run { report: Box::new(run_report()) },
        MasterMessage::Figures { row: figure_row() },
        MasterMessage::Heartbeat,
        MasterMessage::SyncDescribe,
        MasterMessage::SyncElected { election: Box::new(election()) },
        MasterMessage::SyncSource { number: SyncNumber(9), source: Source { peer: peer(0xC0), full: false } },
        MasterMessage::SyncEnded { number: SyncNumber(9), outcome: SyncOutcome::Aborted { text } },
    ];
    messages.map(from_master).into()
}
