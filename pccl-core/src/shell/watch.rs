//! Waits that can be given up: for the bindings of a language in which a signal (Ctrl-C) is seen only by those who ask.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::limits::WATCH_INTERVAL_MS;

type Watch = Rc<RefCell<dyn FnMut() -> bool>>;

thread_local! {
    static WATCH: RefCell<Option<Watch>> = const { RefCell::new(None) };
}

/// Runs `f`. While it waits for an outcome, `gives_up` is asked every `WATCH_INTERVAL_MS`; once it says true, the wait
/// ends with `InvalidUsage`. What was waited for goes on behind the program's back and keeps its memory: a call over
/// borrowed memory returns only when that is back.
pub fn watched<R>(gives_up: impl FnMut() -> bool + 'static, f: impl FnOnce() -> R) -> R {
    let watch: Watch = Rc::new(RefCell::new(gives_up));
    let _before = Before(WATCH.replace(Some(watch)));
    f()
}

/// How long this thread may wait before it has to ask; `None` if nobody watches.
pub fn interval() -> Option<Duration> {
    watcher().map(|_| Duration::from_millis(WATCH_INTERVAL_MS))
}

/// Nobody in a thread that is being torn down, as where an exit handler destroys a communicator.
fn watcher() -> Option<Watch> {
    WATCH.try_with(|watch| watch.borrow().clone()).ok().flatten()
}

/// An error once the program has given up.
pub fn check() -> Result<()> {
    // One that is asked while it answers has not given up.
    let given_up = watcher().is_some_and(|watch| watch.try_borrow_mut().is_ok_and(|mut gives_up| gives_up()));
    if given_up {
        let reason = "the program gave up waiting; what it waited for goes on without it";
        return Err(Error::new(ErrorKind::InvalidUsage, reason));
    }
    Ok(())
}

/// Puts back who watched before, in a panic too.
struct Before(Option<Watch>);

impl Drop for Before {
    fn drop(&mut self) {
        WATCH.set(self.0.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_inside_is_anybody_asked() {
        assert!(interval().is_none() && check().is_ok());
        watched(
            || true,
            || {
                assert!(interval().is_some() && check().is_err());
                watched(|| false, || assert!(check().is_ok()));
                assert!(check().is_err());
            },
        );
        assert!(interval().is_none() && check().is_ok());
    }
}
