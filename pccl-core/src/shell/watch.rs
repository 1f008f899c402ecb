//! Waits that can be given up: for the bindings of a language in which a signal (Ctrl-C) is seen only by those who ask.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::limits::WATCH_INTERVAL_MS;

type Watch = Rc<RefCell<dyn FnMut() -> bool>>;

/// An end tells nobody: it is looked for, at first often, as it mostly comes at once.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

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

/// Whether whoever watches this thread's waits has given up, for loops outside of this library that wait.
pub fn has_given_up() -> bool {
    check().is_err()
}

/// What may take long and cannot be asked to end. Where this thread's waits are watched, another one does it, so that this
/// one can give up; then it is done for nobody.
pub fn aside<T: Send + 'static>(name: &str, f: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let Some(interval) = interval() else { return Ok(f()) };
    let (to, from) = mpsc::channel();
    let thread = std::thread::Builder::new().name(name.into());
    // Nobody may listen any more.
    let thread = thread.spawn(move || drop(to.send(f())));
    thread.map_err(|error| internal(format!("the system gives no thread: {error}")))?;
    loop {
        match from.recv_timeout(interval) {
            Ok(done) => return Ok(done),
            Err(mpsc::RecvTimeoutError::Timeout) => check()?,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(internal(format!("the thread {name} panicked: this is a bug")));
            }
        }
    }
}

/// Returns when the thread has ended, or whoever watches this thread's waits has given up. At once where nobody does: there
/// a `join` waits.
pub fn until_ended(has_ended: impl Fn() -> bool) -> Result<()> {
    let mut pause = FIRST_PAUSE;
    while let Some(interval) = interval() {
        if has_ended() {
            break;
        }
        check()?;
        std::thread::park_timeout(pause);
        pause = interval.min(2 * pause);
    }
    Ok(())
}

fn internal(reason: String) -> Error {
    Error::new(ErrorKind::Internal, reason)
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

    #[test]
    fn what_cannot_be_asked_to_end_is_left_to_itself() {
        let (go_on, told) = mpsc::channel::<()>();
        let mut asked = 0;
        let gives_up = move || {
            asked += 1;
            asked > 2
        };
        let done = watched(gives_up, || aside("pccl-test", move || told.recv()));
        assert_eq!(done.unwrap_err().kind, ErrorKind::InvalidUsage);
        // It still waits, and somebody listens.
        go_on.send(()).unwrap();
        assert_eq!(watched(|| false, || aside("pccl-test", || 7)), Ok(7));
        let here = std::thread::current().id();
        assert_eq!(aside("pccl-test", || std::thread::current().id()), Ok(here));
    }

    #[test]
    fn a_panic_aside_is_an_error() {
        let done = watched(|| false, || aside::<()>("pccl-test", || panic!("planted")));
        assert_eq!(done.unwrap_err().kind, ErrorKind::Internal);
    }

    #[test]
    fn the_end_of_a_thread_is_waited_for_until_somebody_gives_up() {
        assert!(watched(|| true, || until_ended(|| false)).is_err());
        assert!(watched(|| true, || until_ended(|| true)).is_ok());
        let asked = std::cell::Cell::new(0);
        let ends_later = || asked.replace(asked.get() + 1) == 3;
        assert!(watched(|| false, || until_ended(ends_later)).is_ok());
        assert!(until_ended(|| false).is_ok(), "nobody watches");
    }
}
