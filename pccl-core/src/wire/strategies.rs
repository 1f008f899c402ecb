//! Any message, for property tests.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::message::*;
use crate::limits::{
    MAX_EPOCH, MAX_GENERATION, MAX_OP_BYTES, MAX_PEER_ADDRESSES, MAX_PEERS, MAX_PHASE, MAX_PIECE_BYTES,
    MAX_SEQUENCE, MAX_STATE_BYTES, MAX_SYNC_NUMBER, MAX_TENSORS,
};
use crate::types::*;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), Just("é".repeat(crate::limits::MAX_TEXT_BYTES / 2))]
}

fn peer() -> impl Strategy<Value = PeerId> {
    any::<[u8; 16]>().prop_map(PeerId)
}

fn epoch() -> impl Strategy<Value = Epoch> {
    (0..=MAX_EPOCH).prop_map(Epoch)
}

fn key() -> impl Strategy<Value = OpKey> {
    (epoch(), any::<u64>(), 0..=MAX_SEQUENCE).prop_map(|(epoch, tag, seq)| OpKey {
        epoch,
        tag: Tag(tag),
        seq,
    })
}

fn dtype() -> impl Strategy<Value = DType> {
    prop::sample::select(DType::ALL.to_vec())
}

fn descriptor() -> impl Strategy<Value = OpDescriptor> {
    let quantization = prop_oneof![
        Just(Quantization::None),
        dtype().prop_map(Quantization::MinMax),
        dtype().prop_map(Quantization::ZeroPointScale),
        prop::sample::select(vec![
            Quantization::Bits4,
            Quantization::Float8E4M3,
            Quantization::Float8E5M2,
            Quantization::Float16,
            Quantization::BFloat16,
        ]),
    ];
    let op = prop::sample::select(ReduceOp::ALL.to_vec());
    (any::<u64>(), dtype(), op, quantization).prop_map(|(count, dtype, op, quantization)| {
        let count = 1 + count % (MAX_OP_BYTES / dtype.size_bytes() as u64);
        OpDescriptor { count, dtype, op, quantization }
    })
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        any::<[u32; 4]>().prop_map(|[global, groups, largest_group, peers_pending]| Verdict::Committed {
            world: WorldSizes { global, groups, largest_group },
            peers_pending,
        }),
        text().prop_map(|text| Verdict::Mismatched { text }),
        text().prop_map(|text| Verdict::Deadlocked { text }),
    ]
}

fn phase_call() -> impl Strategy<Value = PhaseCall> {
    prop_oneof![
        Just(PhaseCall::UpdateTopology),
        Just(PhaseCall::ArePeersPending),
        Just(PhaseCall::OptimizeTopology)
    ]
}

fn phase_outcome() -> impl Strategy<Value = PhaseOutcome> {
    prop_oneof![
        Just(PhaseOutcome::Updated),
        any::<u32>().prop_map(|peers_pending| PhaseOutcome::Pending { peers_pending }),
        text().prop_map(|text| PhaseOutcome::Deadlocked { text }),
        Just(PhaseOutcome::Optimized),
        text().prop_map(|text| PhaseOutcome::NotOptimized { text }),
    ]
}

/// Group id, size, unlinked pairs and what its network is worth.
type GroupShape = (u32, usize, Vec<(Rank, Rank)>, Option<Arc<Planned>>);

fn cost() -> impl Strategy<Value = Cost> {
    any::<(u32, u64)>().prop_map(|(latency_us, ps_per_byte)| Cost { latency_us, ps_per_byte })
}

/// Parents that lead to the owner: each rank's is one of those that stand before it in an order that the owner begins.
fn parents(owner: Rank, size: usize) -> impl Strategy<Value = Vec<Rank>> {
    let others: Vec<Rank> = (0..size as Rank).filter(|&rank| rank != owner).collect();
    (Just(others).prop_shuffle(), vec(any::<prop::sample::Index>(), size)).prop_map(move |(others, picks)| {
        let line: Vec<Rank> = std::iter::once(owner).chain(others).collect();
        let mut parents = vec![owner; size];
        for (at, (&rank, pick)) in line.iter().zip(&picks).enumerate().skip(1) {
            parents[usize::from(rank)] = line[pick.index(at)];
        }
        parents
    })
}

fn tree(size: usize) -> impl Strategy<Value = PackedTree> {
    (0..size as Rank, 1..=u32::MAX).prop_flat_map(move |(owner, share)| {
        (parents(owner, size), parents(owner, size)).prop_map(move |(reduce_parents, broadcast_parents)| {
            PackedTree { owner, share, reduce_parents, broadcast_parents }
        })
    })
}

fn planned(size: usize) -> impl Strategy<Value = Planned> {
    let kind = prop::sample::select(vec![ForestKind::MeshShares, ForestKind::Packed]);
    let trees = if size < 2 { vec(tree(size), 0..1) } else { vec(tree(size), 0..5) };
    let forest = (kind, cost(), trees)
        .prop_map(|(kind, cost, trees)| (!trees.is_empty()).then_some(PlannedForest { kind, cost, trees }));
    (cost(), cost(), forest).prop_map(|(ring, mesh, forest)| Planned { ring, mesh, forest })
}

/// Groups without their members, whom `epoch_info` deals out.
fn group_shapes() -> impl Strategy<Value = Vec<GroupShape>> {
    let shape = (1usize..6).prop_flat_map(|size| {
        let pairs: Vec<(Rank, Rank)> =
            (1..size as Rank).flat_map(|high| (0..high).map(move |low| (low, high))).collect();
        let most = pairs.len();
        (Just(size), prop::sample::subsequence(pairs, 0..=most), option::of(planned(size)))
    });
    btree_map(any::<u32>(), shape, 0..4).prop_map(|groups| {
        let fitting = |(id, (size, mut unlinked, mut planned)): (u32, (usize, Vec<_>, Option<Planned>))| {
            unlinked.sort();
            if let Some(Planned { forest, .. }) = &mut planned {
                forest.take_if(|forest| forest.check(size, &unlinked).is_err());
            }
            (id, size, unlinked, planned.map(Arc::new))
        };
        groups.into_iter().map(fitting).collect()
    })
}

fn epoch_info() -> impl Strategy<Value = EpochInfo> {
    let members = btree_set(peer(), 20).prop_map(|set| set.into_iter().collect::<Vec<_>>()).prop_shuffle();
    let schedule = (0u8..4).prop_filter_map("a known code", ScheduleChoice::from_code);
    let figures = (0..=MAX_EPOCH, 0..=MAX_PHASE, schedule, 1..=MAX_PIECE_BYTES / 8);
    (figures, group_shapes(), members).prop_map(|((epoch, phase_seq, schedule, eighths), shapes, members)| {
        let mut members = members.into_iter();
        let rtt_us = |group: u32| if group.is_multiple_of(3) { 0 } else { 1 << (group % 32) };
        let groups = shapes.into_iter().map(|(group, size, unlinked, planned)| GroupInfo {
            group: GroupId(group),
            since: Epoch(epoch / 2),
            order: members.by_ref().take(size).collect(),
            unlinked,
            rtt_us: rtt_us(group),
            planned,
        });
        let groups = groups.collect();
        EpochInfo { epoch: Epoch(epoch), phase_seq, schedule, piece_bytes: eighths * 8, groups }
    })
}

fn instances() -> impl Strategy<Value = Vec<(Tag, u32)>> {
    vec((any::<u64>().prop_map(Tag), any::<u32>()), 0..5)
}

fn join() -> impl Strategy<Value = Join> {
    let announced = option::of((any::<IpAddr>(), any::<u16>()));
    (peer(), any::<u32>(), any::<u16>(), announced, any::<u16>()).prop_map(
        |(peer, group, data_port, announced, pool)| Join {
            peer,
            group: GroupId(group),
            data_port,
            announced,
            pool,
        },
    )
}

fn resume() -> impl Strategy<Value = Box<Resume>> {
    let op = (key(), descriptor(), any::<bool>()).prop_map(|(key, descriptor, done)| ResumedOp {
        key,
        descriptor,
        done,
    });
    let run = (join(), any::<u64>(), any::<u64>(), epoch_info(), epoch(), instances());
    let calls = (vec(op, 0..4), vec((key(), verdict()), 0..4));
    let phases = (0..=MAX_PHASE, option::of(phase_call()), option::of(phase_outcome()));
    let link = (peer(), 0..=MAX_GENERATION, any::<u32>());
    let link = link.prop_map(|(peer, generation, rtt_us)| ResumedLink { peer, generation, rtt_us });
    let linked = vec(link, 0..5);
    let elected = || option::of((sync_number(), any::<u64>()));
    let sync = (offer(), elected(), any::<bool>()).prop_map(|(offer, elected, done)| ResumedSync {
        offer,
        elected,
        done,
    });
    let last = option::of((sync_number(), sync_outcome()));
    let syncs = (sync_number(), option::of(sync), last, elected());
    (run, calls, phases, linked, syncs).prop_map(|(run, (ops, verdicts), phases, linked, syncs)| {
        let (phase_seq, phase, phase_last) = phases;
        let (sync_number, sync, sync_last, synced) = syncs;
        let (join, id, incarnation, epoch, since_before, aborted) = run;
        Box::new(Resume {
            join,
            run: RunId(id),
            incarnation: Incarnation(incarnation),
            epoch,
            since_before,
            aborted,
            ops,
            verdicts,
            phase_seq,
            phase,
            phase_last,
            sync_number,
            sync,
            sync_last,
            synced,
            linked,
        })
    })
}

pub(super) fn peer_message() -> impl Strategy<Value = PeerMessage> {
    prop_oneof![
        join().prop_map(PeerMessage::Join),
        resume().prop_map(PeerMessage::Resume),
        (peer(), any::<u32>(), any::<u32>()).prop_map(|(peer, generation, rtt_us)| PeerMessage::LinkUp {
            peer,
            generation,
            rtt_us
        }),
        (peer(), any::<u32>(), text()).prop_map(|(peer, generation, reason)| PeerMessage::LinkFailed {
            peer,
            generation,
            reason
        }),
        (peer(), any::<u32>(), text()).prop_map(|(peer, generation, reason)| PeerMessage::LinkDown {
            peer,
            generation,
            reason
        }),
        epoch().prop_map(|epoch| PeerMessage::Prepared { epoch }),
        (any::<u64>(), phase_call()).prop_map(|(seq, call)| PeerMessage::Phase { seq, call }),
        (key(), descriptor()).prop_map(|(key, descriptor)| PeerMessage::Announce { key, descriptor }),
        key().prop_map(|key| PeerMessage::Done { key }),
        (key(), any::<bool>()).prop_map(|(key, alone)| PeerMessage::Blocked { key, alone }),
        Just(PeerMessage::Heartbeat),
        Just(PeerMessage::Leave),
        offer().prop_map(|offer| PeerMessage::SyncOffer { offer }),
        (any::<u32>(), any::<bool>(), vec(tensor_key(), 0..4))
            .prop_map(|(first, last, keys)| PeerMessage::SyncKeys { first, last, keys }),
        (sync_number(), option::of(fetch_failure()))
            .prop_map(|(number, failed)| PeerMessage::SyncDone { number, failed }),
        probe_report().prop_map(|report| PeerMessage::Probed { report }),
        Just(PeerMessage::Inspect),
        vec(heard(), 0..4).prop_map(|heard| PeerMessage::Observed { heard }),
    ]
}

fn peer_address() -> impl Strategy<Value = PeerAddress> {
    let address = (any::<IpAddr>(), any::<u16>()).prop_map(SocketAddr::from);
    (peer(), any::<u32>(), vec(address, 0..=MAX_PEER_ADDRESSES))
        .prop_map(|(peer, generation, addresses)| PeerAddress { peer, generation, addresses })
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 16]>().prop_map(Digest)
}

fn sync_number() -> impl Strategy<Value = SyncNumber> {
    (0..=MAX_SYNC_NUMBER).prop_map(SyncNumber)
}

fn offer() -> impl Strategy<Value = Offer> {
    let strategy = prop::sample::select(SyncStrategy::ALL.to_vec());
    let sizes = (0..=MAX_TENSORS as u32, 0..=MAX_STATE_BYTES);
    let digests = [digest(), digest(), digest()];
    (0..u64::MAX, strategy, any::<bool>(), sizes, digests).prop_map(
        |(revision, strategy, left_behind, (tensors, size_bytes), [keys, content, full])| Offer {
            revision,
            strategy,
            left_behind,
            tensors,
            size_bytes,
            keys,
            content,
            full,
        },
    )
}

fn tensor_key() -> impl Strategy<Value = TensorKey> {
    (text(), dtype(), any::<u64>(), any::<bool>()).prop_map(|(name, dtype, count, may_differ)| TensorKey {
        name,
        dtype,
        count,
        may_differ,
    })
}

fn sync_outcome() -> impl Strategy<Value = SyncOutcome> {
    prop_oneof![
        any::<u64>().prop_map(|revision| SyncOutcome::Synchronized { revision }),
        text().prop_map(|text| SyncOutcome::NothingOffered { text }),
        text().prop_map(|text| SyncOutcome::Aborted { text }),
        text().prop_map(|text| SyncOutcome::Deadlocked { text }),
    ]
}

fn fetch_failure() -> impl Strategy<Value = FetchFailure> {
    prop_oneof![
        text().prop_map(|text| FetchFailure::BrokenOff { text }),
        text().prop_map(|text| FetchFailure::NoSource { text }),
        text().prop_map(|text| FetchFailure::NotHere { text }),
    ]
}

fn election() -> impl Strategy<Value = Box<Election>> {
    let sources = btree_map(peer(), any::<bool>(), 1..6);
    (sync_number(), any::<u64>(), [digest(), digest()], sources).prop_map(
        |(number, revision, [content, full], sources)| {
            let sources = sources.into_iter().enumerate();
            let sources: Vec<Source> =
                sources.map(|(at, (peer, full))| Source { peer, full: full || at == 0 }).collect();
            Box::new(Election { number, revision, content, full, winner: sources[0].peer, sources })
        },
    )
}

fn probe_order() -> impl Strategy<Value = ProbeOrder> {
    (any::<u64>(), any::<[u32; 2]>(), vec(peer(), 0..4), vec(peer(), 0..4))
        .prop_map(|(number, [round, rounds], to, from)| ProbeOrder { number, round, rounds, to, from })
}

fn heard() -> impl Strategy<Value = Heard> {
    (peer(), any::<u64>()).prop_map(|(from, bytes_per_second)| Heard { from, bytes_per_second })
}

fn probe_report() -> impl Strategy<Value = ProbeReport> {
    let round_trip = (peer(), any::<u32>()).prop_map(|(to, rtt_us)| RoundTrip { to, rtt_us });
    let sent = (peer(), any::<u64>()).prop_map(|(to, bytes_per_second)| Sent { to, bytes_per_second });
    (any::<u64>(), vec(heard(), 0..4), vec(round_trip, 0..4), vec(sent, 0..4))
        .prop_map(|(number, heard, round_trips, sent)| ProbeReport { number, heard, round_trips, sent })
}

fn run_report() -> impl Strategy<Value = Box<RunReport>> {
    let addresses = vec((peer(), any::<IpAddr>()), 0..4);
    (epoch_info(), any::<u32>(), addresses, 0..=MAX_PEERS as u32).prop_map(
        |(epoch, peers_pending, addresses, rows)| {
            let rows_left_out = MAX_PEERS as u32 - rows;
            Box::new(RunReport { epoch, peers_pending, addresses, rows, rows_left_out })
        },
    )
}

fn figure_row() -> impl Strategy<Value = FigureRow> {
    (any::<u32>(), peer(), any::<[u64; 3]>(), vec(any::<u64>(), 0..4), vec(any::<u32>(), 0..4)).prop_map(
        |(group, peer, [up, down, age_ms], bytes_per_second, rtt_us)| FigureRow {
            group: GroupId(group),
            peer,
            up_bytes_per_second: up,
            down_bytes_per_second: down,
            bytes_per_second,
            rtt_us,
            age_ms,
        },
    )
}

fn epoch_cause() -> impl Strategy<Value = EpochCause> {
    prop_oneof![
        Just(EpochCause::Admitted),
        text().prop_map(|text| EpochCause::Lost { text }),
        text().prop_map(|text| EpochCause::Relinked { text }),
    ]
}

fn welcome() -> impl Strategy<Value = MasterMessage> {
    (any::<[u64; 2]>(), any::<u128>(), any::<[u32; 2]>()).prop_map(
        |([incarnation, run], token, [heartbeat_ms, silence_ms])| MasterMessage::Welcome {
            incarnation: Incarnation(incarnation),
            run: RunId(run),
            token: LinkToken(token),
            heartbeat_ms,
            silence_ms,
        },
    )
}

pub(super) fn master_message() -> impl Strategy<Value = MasterMessage> {
    prop_oneof![
        welcome(),
        (any::<bool>(), text()).prop_map(|(fatal, text)| MasterMessage::Refused { fatal, text }),
        Just(MasterMessage::Pending),
        vec(peer_address(), 0..5).prop_map(|peers| MasterMessage::LinkTo { peers }),
        peer().prop_map(|peer| MasterMessage::Unlink { peer }),
        epoch().prop_map(|epoch| MasterMessage::Prepare { epoch }),
        (epoch_info(), instances(), epoch_cause())
            .prop_map(|(info, aborted, cause)| MasterMessage::NewEpoch { info, aborted, cause }),
        (any::<u64>(), phase_call(), phase_outcome())
            .prop_map(|(seq, call, outcome)| MasterMessage::PhaseDone { seq, call, outcome }),
        (key(), verdict()).prop_map(|(key, verdict)| MasterMessage::Verdict { key, verdict }),
        text().prop_map(|text| MasterMessage::Kicked { text }),
        Just(MasterMessage::SyncDescribe),
        election().prop_map(|election| MasterMessage::SyncElected { election }),
        (sync_number(), peer(), any::<bool>()).prop_map(|(number, peer, full)| MasterMessage::SyncSource {
            number,
            source: Source { peer, full }
        }),
        (sync_number(), sync_outcome())
            .prop_map(|(number, outcome)| MasterMessage::SyncEnded { number, outcome }),
        probe_order().prop_map(|order| MasterMessage::Probe { order }),
        run_report().prop_map(|report| MasterMessage::Run { report }),
        figure_row().prop_map(|row| MasterMessage::Figures { row }),
        Just(MasterMessage::Heartbeat),
    ]
}
