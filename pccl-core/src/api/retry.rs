//! A list of all-reduces, repeated until all of them are done.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::Work;
use super::communicator::no_buffers;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{BLOCKED_ALONE_REPORT_MS, BLOCKED_REPORT_MS};
use crate::mem::{Buffers, Element, InputAtStake, Memory};
use crate::proto::peer::ReduceInfo;
use crate::shell::{check_watch, watch_interval};
use crate::types::{OpDescriptor, ReduceOp, Tag};

/// One all-reduce of a list.
#[derive(Debug)]
pub struct ReduceRequest<'a> {
    pub(super) memory: Memory<'a>,
    pub(super) descriptor: OpDescriptor,
    pub(super) tag: Tag,
}

impl<'a> ReduceRequest<'a> {
    /// See `Communicator::all_reduce`.
    pub fn new<T: Element>(
        send: &'a [T],
        recv: &'a mut [T],
        op: ReduceOp,
        tag: Tag,
    ) -> Result<ReduceRequest<'a>> {
        let descriptor = OpDescriptor::plain(send.len() as u64, T::DTYPE, op);
        let memory = Memory::of(send, recv).map_err(|error| no_buffers(tag, error))?;
        Ok(ReduceRequest { memory, descriptor, tag })
    }

    /// See `Communicator::all_reduce_in_place`.
    pub fn in_place<T: Element>(data: &'a mut [T], op: ReduceOp, tag: Tag) -> ReduceRequest<'a> {
        let descriptor = OpDescriptor::plain(data.len() as u64, T::DTYPE, op);
        ReduceRequest { memory: Memory::in_place(data), descriptor, tag }
    }

    /// Over memory the caller vouches for, of as many bytes as the descriptor says.
    pub fn from_memory(memory: Memory<'a>, descriptor: OpDescriptor, tag: Tag) -> ReduceRequest<'a> {
        ReduceRequest { memory, descriptor, tag }
    }
}

/// What can be known to be wrong before anything is started.
pub(super) fn check(mut wanted: impl Iterator<Item = Tag>, max_in_flight: usize) -> Result<()> {
    let invalid = |reason: String| Err(Error::new(ErrorKind::InvalidArgument, reason));
    if max_in_flight == 0 {
        return invalid("max_in_flight is 0: nothing could ever run".into());
    }
    let mut tags = BTreeSet::new();
    if max_in_flight > 1
        && let Some(twice) = wanted.find(|tag| !tags.insert(*tag))
    {
        return invalid(format!("{twice} is in the list twice: those in flight at once need different tags"));
    }
    Ok(())
}

/// Something that ends, and can be told that its program does nothing but wait for it.
pub(super) trait Waitable: Future<Output = Result<ReduceInfo>> + Unpin {
    /// `long`: for `BLOCKED_ALONE_REPORT_MS`.
    fn blocked(&self, long: bool);
}

impl Waitable for Work {
    fn blocked(&self, long: bool) {
        self.report_blocked(long);
    }
}

/// As `run_all` over the memory that `buffers` gives. If the list fails, those that were done get their input back, as those
/// that were not: whoever calls again with the same list is right, and nothing is reduced twice.
pub(super) fn run_whole<W: Waitable>(
    count: usize,
    max_in_flight: usize,
    mut buffers: impl FnMut(usize) -> Result<Buffers>,
    mut start: impl FnMut(usize, Buffers) -> Result<W>,
) -> Result<ReduceInfo> {
    let mut inputs: Vec<Option<InputAtStake>> = (0..count).map(|_| None).collect();
    let mut todo: BTreeSet<usize> = (0..count).collect();
    let outcome = run_all(&mut todo, max_in_flight, |index| {
        let memory = buffers(index)?;
        if inputs[index].is_none() {
            let reason = || format!("descriptors[{index}]: there is no memory to keep its input");
            let input = memory.input_at_stake();
            inputs[index] = Some(input.ok_or_else(|| Error::new(ErrorKind::Internal, reason()))?);
        }
        start(index, memory)
    });
    if outcome.is_err() {
        for (index, input) in inputs.iter().enumerate().filter(|(index, _)| !todo.contains(index)) {
            if let Some(input) = input {
                buffers(index)?.put_back(input);
            }
        }
    }
    outcome
}

/// Runs those of `todo`, until it is empty or one has failed. The lowest unfinished indices are always the ones in flight. So what is in flight depends on the verdicts
/// alone, which are the same at every peer, and never on who hears of them first: nobody waits for ever.
fn run_all<W: Waitable>(
    todo: &mut BTreeSet<usize>,
    max_in_flight: usize,
    mut start: impl FnMut(usize) -> Result<W>,
) -> Result<ReduceInfo> {
    let mut in_flight: Vec<W> = Vec::new();
    let mut indices: Vec<usize> = Vec::new();
    let mut total = ReduceInfo::default();
    let mut failure = None;
    loop {
        while in_flight.len() < max_in_flight && failure.is_none() {
            let Some(index) = todo.iter().copied().find(|index| !indices.contains(index)) else { break };
            match start(index) {
                Ok(work) => {
                    in_flight.push(work);
                    indices.push(index);
                }
                Err(error) => failure = Some(error),
            }
        }
        if in_flight.is_empty() {
            break;
        }
        // Who gives up leaves those in flight to themselves.
        let (at, outcome) = wait_any(&mut in_flight)?;
        drop(in_flight.remove(at));
        let index = indices.remove(at);
        match outcome {
            Ok(info) => {
                todo.remove(&index);
                total = ReduceInfo {
                    tx_bytes: total.tx_bytes + info.tx_bytes,
                    rx_bytes: total.rx_bytes + info.rx_bytes,
                    ..info
                };
            }
            Err(error) if error.kind == ErrorKind::Aborted => {}
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(total),
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks until one of them has ended; which, and how. An error if whoever watches this thread's waits has given up.
fn wait_any<W: Waitable>(works: &mut [W]) -> Result<(usize, Result<ReduceInfo>)> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let begun = Instant::now();
    let mut reports = [(BLOCKED_REPORT_MS, false), (BLOCKED_ALONE_REPORT_MS, true)].into_iter().peekable();
    loop {
        for (at, work) in works.iter_mut().enumerate() {
            if let Poll::Ready(outcome) = Pin::new(work).poll(&mut context) {
                return Ok((at, outcome));
            }
        }
        check_watch()?;
        let report = reports
            .peek()
            .map(|&(after_ms, long)| (Duration::from_millis(after_ms).saturating_sub(begun.elapsed()), long));
        let Some((Duration::ZERO, long)) = report else {
            park(report.map(|(patience, _)| patience).into_iter().chain(watch_interval()).min());
            continue;
        };
        reports.next();
        // With several under way the program can go on when any of them ends: it is not blocked in one.
        if let [only] = &*works {
            only.blocked(long);
        }
    }
}

fn park(patience: Option<Duration>) {
    match patience {
        Some(patience) => std::thread::park_timeout(patience),
        None => std::thread::park(),
    }
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
