//! Every maximum of the library, its unit in its name. Nothing that a network or a caller can do makes us
//! take more than these allow.

/// Accepted and pending peers of one run.
pub const MAX_PEERS: usize = 1024;
/// Operations one peer may have in flight at once.
pub const MAX_OPS_IN_FLIGHT: usize = 4096;
/// Distinct tags one peer may use while an epoch lasts (each costs a few bytes of sequence number).
pub const MAX_TAGS_PER_EPOCH: usize = 1 << 16;
/// Bytes of one operation's payload.
pub const MAX_OP_BYTES: u64 = 1 << 40;

/// Tensors of one shared state.
pub const MAX_TENSORS: usize = 1 << 16;
/// The names of all tensors of one shared state together; one may have `MAX_TEXT_BYTES`.
pub const MAX_STATE_NAMES_BYTES: usize = 6 << 20;
/// Bytes of one shared state.
pub const MAX_STATE_BYTES: u64 = 1 << 44;
/// Groups of which a master compares the tensors of their members at once: it keeps one peer's description for each.
pub const MAX_DESCRIBING_GROUPS: usize = 8;
/// What a shared state is hashed, compared and sent in.
pub const STATE_BLOCK_BYTES: usize = 256 << 10;
/// A list of asks or digests on a data link.
pub const MAX_STATE_NOTE_BYTES: usize = 64 << 10;
/// Blocks of a shared state that one peer may have asked of another and not received.
pub const MAX_STATE_ASKS: usize = 4096;
/// Asks of a synchronization that has not begun here, of one peer. Whoever is ahead may have the list of tensors from another
/// source, and ask this one for all that one may have outstanding: blocks one by one, and lists of digests.
pub const MAX_EARLY_STATE_ASKS: usize = 2 * MAX_STATE_ASKS;
/// Bytes of them: what a source may have on its way to one receiver.
pub const MAX_STATE_WINDOW_BYTES: u64 = 128 << 20;
/// A source that was asked and sends nothing for so long counts no more.
pub const STATE_SILENCE_MS: u64 = 10_000;
/// What a source has to send of all it was asked for to count as alive, unless that ends a block. Together with the time
/// above the slowest path from a source there may be: 3 kbit/s.
pub const STATE_LIFE_BYTES: usize = 4 << 10;
/// A fetch to which nothing came whole for so long, no block and no list, has failed. Sixty-four blocks side by side take so long
/// at 40 kbit/s.
pub const STATE_STUCK_MS: u64 = 3_600_000;
/// What a peer's library answers by itself in a synchronization it answers within this time, or its group goes on without it.
pub const SYNC_ANSWER_MS: u64 = 10_000;
/// Whom a group waits for in a synchronization the master's log names after this time, and again whenever it has doubled.
pub const SYNC_AWAITED_MS: u64 = 60_000;
/// How often a long transfer says how far it has come.
pub const STATE_PROGRESS_MS: u64 = 2_000;
/// Threads that hash one shared state, the caller's own among them: eight read faster than any memory of today delivers.
pub const MAX_HASH_THREADS: usize = 8;

/// Epochs, phases, sequences and generations count up one by one and never get near these: a number from the
/// wire that is larger is an error, so that counting on from it cannot overflow.
pub const MAX_EPOCH: u64 = 1 << 62;
pub const MAX_PHASE: u64 = 1 << 62;
pub const MAX_SYNC_NUMBER: u64 = 1 << 62;
pub const MAX_SEQUENCE: u32 = 1 << 30;
pub const MAX_GENERATION: u32 = 1 << 30;

/// One control frame, header excluded. An epoch of `MAX_PEERS` peers must fit.
pub const MAX_CONTROL_FRAME_BYTES: usize = 3 << 19;
/// Trees of a planned forest. More fit a matrix little better, and each costs 4 bytes a peer in every epoch's message.
pub const MAX_FOREST_TREES: usize = 64;
/// One control frame before the sender has joined.
pub const MAX_CONTROL_FRAME_BEFORE_JOIN_BYTES: usize = 1 << 10;
/// A text inside a control frame (reasons, host names); longer ones are cut when sent, refused when read.
pub const MAX_TEXT_BYTES: usize = 1 << 10;
/// Control bytes queued for one peer that does not read; beyond that it is let go.
pub const MAX_CONTROL_QUEUE_BYTES: usize = 8 << 20;
/// Addresses one peer may be reached at.
pub const MAX_PEER_ADDRESSES: usize = 4;

/// Payload of one data frame: what has to be finished with filler after an abort.
pub const MAX_SEGMENT_BYTES: usize = 1 << 20;
/// The same on links that are not near: at 10 Mbit/s filler takes 50 ms.
pub const FAR_SEGMENT_BYTES: usize = 64 << 10;
/// Of what arrives, so much is read at once, then added or summed while it is hot. Less costs more calls and wake-ups (128 KiB: a
/// tenth of the time of 256 MiB between two near peers and more), more leaves the second-level cache.
pub const HOT_BYTES: usize = 256 << 10;
/// Of what is sent, so much is summed and given to the system before the next: it should still be in the second-level cache,
/// which has 512 KiB on many hosts, when the system copies it.
pub const CHECKED_AT_ONCE_BYTES: usize = 256 << 10;
/// Up to this round trip peers are near: in one building, or on one host. Links have longer frames, groups longer pieces,
/// and their large payloads a ring: beyond it paths between pairs are the limit, not the hosts' own links, and a mesh uses
/// all of them at once. A power of two, since epochs carry a group's round trip rounded up to one.
pub const NEAR_RTT_US: u32 = 2_048;
/// From this round trip on a path counts as wide area. Below it eight connections of an algorithm that takes loss for a
/// full queue still carry about a gigabit a second at one packet lost in a thousand: 1.22 × segment / (round trip ×
/// √loss) each.
pub const WIDE_AREA_RTT_US: u32 = 5_000;
/// Default and largest size of a piece (a multiple of the largest element).
pub const DEFAULT_PIECE_BYTES: u32 = 256 << 10;
pub const MAX_PIECE_BYTES: u32 = 4 << 20;
/// Verdicts a peer remembers for a restarted master.
pub const MAX_RESUME_VERDICTS: usize = MAX_OPS_IN_FLIGHT;
/// What a peer keeps of a verdict's text for that purpose.
pub const MAX_REMEMBERED_TEXT_BYTES: usize = 100;
/// Instances with a verdict other than commit that a group's master keeps for members that have not called them.
pub const MAX_JUDGED_INSTANCES: usize = MAX_OPS_IN_FLIGHT;
/// How often a pair's link may be lost within `TROUBLE_MEMORY_MS` before schedules avoid the pair where they can.
pub const MAX_TROUBLES: u32 = 2;
pub const TROUBLE_MEMORY_MS: u64 = 60_000;
/// How often a pair that could not be linked is tried again.
pub const RELINK_RETRY_MS: u64 = 10_000;
/// Messages of one peer kept while a restarted master waits for the others.
pub const MAX_HELD_MESSAGES_PER_PEER: usize = 4 * MAX_OPS_IN_FLIGHT;
/// The same of all peers together.
pub const MAX_HELD_MESSAGES: usize = 1 << 16;
/// Grants of operations not announced here yet, kept for one peer.
pub const MAX_EARLY_GRANTS_PER_PEER: usize = 2 * MAX_OPS_IN_FLIGHT;

/// An operation whose payload is at most this is sent whole by everybody to everybody (the *small* schedule). A host's
/// link carries N / 2 times what a mesh would put on it: with 32 KiB and four peers 0.4 ms more at 1 Gbit/s, about what
/// the two delays that it spares cost on a LAN, and nothing beside those of a wide area.
pub const MAX_EAGER_FRAME_BYTES: usize = 32 << 10;
/// What one small operation may send, or receive, together: a peer's payload goes out N − 1 times.
pub const MAX_EAGER_OP_BYTES: usize = 512 << 10;
/// Eager bytes sent to one peer that may not have started their operations: 16 of the largest for a group of up to 17.
pub const MAX_EAGER_BYTES_PER_PEER: usize = 512 << 10;
/// The same in frames, as each costs some memory of its own.
pub const MAX_EAGER_FRAMES_PER_PEER: usize = 256;
/// What a group's other members may send one peer together: in larger groups the share of each is smaller.
pub const MAX_EAGER_BYTES: usize = 8 << 20;

/// What contributions to the small operations that a communicator runs may take of the process's budget. One operation at a time, at
/// most `MAX_EAGER_OP_BYTES`, may have room beside it.
pub const MAX_EAGER_RUNNING_BYTES: usize = 16 << 20;

/// What all operations of a process together may take besides their callers' memory and saved input.
pub const MEMORY_BUDGET_BYTES: usize = 48 << 20;
/// What one operation may take of it for contributions that come ahead of their turn: about what is on its way
/// on a fast long path.
pub const MAX_WINDOW_BYTES: usize = 16 << 20;
/// What keeping one such contribution costs besides its bytes.
pub const WINDOW_OVERHEAD_BYTES: usize = 128;
/// Blocks of windows kept in stock between uses.
pub const WINDOW_STOCK_BYTES: usize = 4 << 20;
/// Areas for saved input of at least so many bytes are kept between operations; the allocator keeps smaller ones itself.
pub const MIN_KEPT_SAVE_BYTES: usize = 256 << 10;
/// By how much a kept area may exceed what the next operation needs.
pub const MAX_SAVE_EXCESS_BYTES: usize = 8 << 20;
/// What was in use at once during so many operations, or the same number before them, may be kept.
pub const SAVE_STRETCH_OPS: usize = 16;
/// From here on areas ask for huge pages.
pub const MIN_HUGE_SAVE_BYTES: usize = 4 << 20;
/// Memory for saved input is given back when no operation began or ended for so long.
pub const SAVE_IDLE_MS: u64 = 5_000;

/// Data connections of one pair.
pub const DEFAULT_POOL_CONNECTIONS: u16 = 8;
pub const MAX_POOL_CONNECTIONS: u16 = 64;
/// What one connection of a pool is taken to have on its way: its send buffer is 4 MiB on most hosts, and holds what is not
/// acknowledged. A path that was measured gets so many that all it can have on its way fits.
pub const CONNECTION_FLIGHT_BYTES: u64 = 3_000_000;
/// Data connections one peer wants, to all others together: its pools shrink so that descriptors suffice, to half of
/// those the process may have if that is less. Others that want larger ones dial what is missing,
/// `MAX_POOL_CONNECTIONS` a pair at most.
pub const MAX_DATA_CONNECTIONS: usize = 512;
/// Unsent bytes a data connection holds.
pub const DEFAULT_NOTSENT_LOWAT_BYTES: u32 = 128 << 10;
/// No setting of a socket's memory may be larger.
pub const MAX_SOCKET_BYTES: u32 = 1 << 30;
/// Connections that have not said who they are, per listening port. One more pushes the oldest out.
pub const MAX_UNKNOWN_CONNECTIONS: usize = 128;
/// How long a connection may stay unknown.
pub const UNKNOWN_CONNECTION_TIMEOUT_MS: u64 = 3_000;
/// A master that ended our connection unanswered may be flooded by strangers: after this long we dial again.
pub const UNANSWERED_REDIAL_MS: u64 = 50;
/// Connections the system may hold that were not accepted yet, per listening port.
pub const LISTEN_BACKLOG: i32 = 1024;
/// How long, and for how many bytes, a connection we end is still read, so that our last words arrive.
pub const MAX_LINGER_MS: u64 = 1_000;
pub const MAX_LINGER_BYTES: usize = 1 << 20;
/// Data connections of peers the master has not told us about yet.
pub const MAX_PARKED_CONNECTIONS: usize = 64;

/// Pings that a measurement of a link begins with.
pub const PROBE_PINGS: u32 = 3;
/// How long it then sends all it can: so many round trips, as the algorithms for congestion double their rate in each or
/// nearly so, within these bounds.
pub const PROBE_ROUND_TRIPS: u64 = 10;
pub const MIN_PROBE_SPAN_MS: u64 = 250;
pub const MAX_PROBE_SPAN_MS: u64 = 800;
/// What one peer sends another in one round at most: 250 ms at 16 Gbit/s.
pub const MAX_PROBE_BYTES: u64 = 512 << 20;
/// A round that takes longer is reported as far as it came.
pub const PROBE_LIMIT_MS: u64 = 3_000;

/// When a master does without the reports that are missing.
pub const PROBE_REPORT_MS: u64 = PROBE_LIMIT_MS + 2_000;
/// A measurement is good for so long.
pub const FIGURE_FRESH_MS: u64 = 600_000;
/// No path is taken to be faster, whatever a peer says.
pub const MAX_FIGURE_BYTES_PER_SECOND: u64 = 1_000_000_000_000;
/// How often a call begins its measurements anew because links or peers went away: as often again its search for a plan.
pub const MAX_MEASURE_RESTARTS: u32 = 8;
/// What the search for plans of all groups may take while programs wait: about half a second.
pub const PLAN_STEPS: u64 = 50_000_000;
/// How much longer it may search in the background.
pub const BACKGROUND_PLAN_EFFORT: u64 = 16;
/// The operation that plans are made for and compared by. Small ones choose among the schedules of a plan by themselves,
/// so it is a large one: what a plan gains shows there.
pub const PLANNED_BYTES: u64 = 256 << 20;
/// What the figures that go to somebody who only looks may take, beside the run report itself.
pub const MAX_FIGURES_BYTES: usize = 6 << 20;

pub const DEFAULT_HEARTBEAT_MS: u32 = 500;
pub const DEFAULT_SILENCE_MS: u32 = 3_000;
pub const MIN_SILENCE_MS: u32 = 200;
/// How long linking a newcomer, or re-linking a pair, may take.
pub const DEFAULT_LINK_TIMEOUT_MS: u32 = 5_000;
/// How long a newcomer may take to answer a prepare.
/// A connection that makes no progress while others of the same pair do is borne for so many silence times. The system sends a
/// lost segment again after twice the time each time, so this allows two attempts more than one silence time does: where one
/// packet in seven is lost, fifty times as few connections end that only had bad luck. One whose path alone is dead holds an
/// operation up for so long; that is rare, and all connections of a pair end with the pair's silence.
pub const STALL_FACTOR_AMONG_OTHERS: u64 = 4;
pub const DEFAULT_PREPARE_TIMEOUT_MS: u32 = 500;
/// A lost data link may be the first sign of a death: this long the master waits for the other signs.
pub const LINK_LOSS_GRACE_MS: u64 = 20;
pub const DEFAULT_CONNECT_TIMEOUT_MS: u32 = 5_000;
/// How long a peer looks for a master that went away.
pub const DEFAULT_RECONNECT_TIMEOUT_MS: u32 = 60_000;
/// How long a restarted master waits for the peers of the run it finds.
pub const DEFAULT_RESUME_GRACE_MS: u32 = 10_000;
/// No setting of a time may be longer: a day.
pub const MAX_TIMEOUT_MS: u32 = 86_400_000;
/// A wait longer than this is reported to the master, which looks for a deadlock of mixed calls.
pub const BLOCKED_REPORT_MS: u64 = 1_000;
/// After this long a program that used one thread so far is taken to have no other: its wait is reported as one
/// beside which nothing else is called.
pub const BLOCKED_ALONE_REPORT_MS: u64 = 30_000;

/// Whoever presses Ctrl-C gets an answer within this.
pub const MAX_INTERRUPT_MS: u64 = 100;
/// A wait that can be given up asks so often.
pub const WATCH_INTERVAL_MS: u64 = 40;

/// Log lines about strangers, per listening port and second; the rest are counted.
pub const MAX_STRANGER_LOG_LINES_PER_S: u32 = 5;

// Half of it is for the machine to let the waiting thread run, and for the handler.
const _: () = assert!(2 * WATCH_INTERVAL_MS <= MAX_INTERRUPT_MS);
const _: () = assert!(MAX_SEGMENT_BYTES.is_multiple_of(8) && FAR_SEGMENT_BYTES.is_multiple_of(8));
const _: () = assert!(FAR_SEGMENT_BYTES <= MAX_SEGMENT_BYTES);
const _: () = assert!(NEAR_RTT_US.is_power_of_two() && NEAR_RTT_US < WIDE_AREA_RTT_US);
const _: () =
    assert!(MAX_EAGER_FRAME_BYTES <= MAX_SEGMENT_BYTES && MAX_EAGER_FRAME_BYTES <= MAX_EAGER_OP_BYTES);
// However large the group, each peer's share holds at least some of the largest small operation.
const _: () = assert!(MAX_EAGER_OP_BYTES * 16 <= MAX_EAGER_BYTES);
const _: () = assert!(MAX_EAGER_FRAME_BYTES * 16 <= MAX_EAGER_BYTES_PER_PEER);
// What a process takes for operations out of place: 64 MiB at most, with room for everything that is small.
const _: () = assert!(MEMORY_BUDGET_BYTES + WINDOW_STOCK_BYTES + MAX_SAVE_EXCESS_BYTES <= 60 << 20);
const _: () = assert!(DEFAULT_PIECE_BYTES.is_multiple_of(8) && DEFAULT_PIECE_BYTES <= MAX_PIECE_BYTES);
const _: () = assert!(MAX_PEERS <= u16::MAX as usize);
// Whoever asks for figures and does not read at once gets them all the same.
const _: () = assert!(MAX_FIGURES_BYTES + MAX_CONTROL_FRAME_BYTES < MAX_CONTROL_QUEUE_BYTES);
/// What the forests of an epoch take at most: groups of two, each with all its trees.
const FORESTS_BYTES: usize = MAX_FOREST_TREES * (MAX_PEERS * 4 + MAX_PEERS / 2 * 6);
// An epoch message: 16 bytes a peer and 4 an unlinked pair, of which a connected group of n has under n²/2.
const _: () = assert!(MAX_PEERS * 32 + MAX_TAGS_PER_EPOCH * 12 + FORESTS_BYTES < MAX_CONTROL_FRAME_BYTES);
// A resume message: an epoch, operations of under 64 bytes, verdicts of under 64 bytes and their texts, links.
const _: () = assert!(
    MAX_PEERS * 80
        + FORESTS_BYTES
        + MAX_OPS_IN_FLIGHT * 64
        + MAX_RESUME_VERDICTS * (64 + MAX_REMEMBERED_TEXT_BYTES)
        < MAX_CONTROL_FRAME_BYTES
);
// Whoever sends just enough not to be silent has sent a block by then.
const _: () = assert!(STATE_STUCK_MS / STATE_SILENCE_MS * STATE_LIFE_BYTES as u64 > STATE_BLOCK_BYTES as u64);
const _: () = assert!(BLOCKED_REPORT_MS < BLOCKED_ALONE_REPORT_MS);
const _: () = assert!(DEFAULT_HEARTBEAT_MS * 2 < DEFAULT_SILENCE_MS);
const _: () = assert!(LINK_LOSS_GRACE_MS < MIN_SILENCE_MS as u64);
