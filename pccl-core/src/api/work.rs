//! An all-reduce under way.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::mpsc::UnboundedSender;

use super::callers::Callers;
use super::check_process;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{BLOCKED_ALONE_REPORT_MS, BLOCKED_REPORT_MS};
use crate::proto::peer::{Done, ReduceInfo};
use crate::shell::node::Request;
use crate::shell::{Command, PeerThread, Slot};
use crate::types::WorkId;

/// A handle on an all-reduce: wait for it, ask it, or await it, from any thread. Asked again, it gives the same
/// answer. Dropping it does not end the operation.
#[derive(Debug)]
#[must_use = "the operation's memory is in use until it is done"]
pub struct Work {
    slot: Arc<Slot>,
    work: WorkId,
    mailbox: UnboundedSender<Command>,
    callers: Arc<Callers>,
    pid: u32,
}

impl Work {
    pub(super) fn new(thread: &PeerThread, request: Request, callers: Arc<Callers>, pid: u32) -> Work {
        let (work, slot) = thread.call(request);
        Work { slot, work, mailbox: thread.mailbox(), callers, pid }
    }

    /// Blocks until the outcome is known at all peers of the group.
    pub fn wait(&self) -> Result<ReduceInfo> {
        check_process(self.pid, "operation")?;
        self.callers.note();
        let soon = self.slot.wait_timeout(BLOCKED_REPORT_MS);
        let late = soon.or_else(|| {
            self.report_blocked(false);
            self.slot.wait_timeout(BLOCKED_ALONE_REPORT_MS - BLOCKED_REPORT_MS)
        });
        reduced(late.unwrap_or_else(|| {
            self.report_blocked(true);
            self.slot.wait()
        }))
    }

    /// `None` if there is no outcome within `ms`; the operation goes on.
    pub fn wait_timeout(&self, ms: u64) -> Option<Result<ReduceInfo>> {
        if let Err(error) = check_process(self.pid, "operation") {
            return Some(Err(error));
        }
        self.callers.note();
        self.slot.wait_timeout(ms).map(reduced)
    }

    /// Whether there is an outcome. Always in a forked child: nothing is under way there, and `wait` says so.
    pub fn is_done(&self) -> bool {
        if check_process(self.pid, "operation").is_err() {
            return true;
        }
        self.callers.note();
        self.slot.is_done()
    }

    /// As `Future::poll`, for those who share it. The last waker given is the one that is woken.
    pub fn poll_outcome(&self, context: &mut Context<'_>) -> Poll<Result<ReduceInfo>> {
        check_process(self.pid, "operation")?;
        self.callers.note();
        Poll::Ready(reduced(ready!(self.slot.poll(context))))
    }

    /// Tells the master that the program waits for this, so that it can look for calls that never meet. Only
    /// after a `long` time does a single caller show that there is no other: a second thread may be about to
    /// make its first call.
    pub(super) fn report_blocked(&self, long: bool) {
        let alone = long && self.callers.one();
        // A thread that is gone has answered by that.
        let _ = self.mailbox.send(Command::Blocked { work: self.work, alone });
    }
}

impl Future for Work {
    type Output = Result<ReduceInfo>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_outcome(context)
    }
}

fn reduced(outcome: Result<Done>) -> Result<ReduceInfo> {
    match outcome? {
        Done::Reduced(info) => Ok(info),
        other => Err(Error::new(ErrorKind::Internal, format!("an all-reduce ended with {other:?}"))),
    }
}
