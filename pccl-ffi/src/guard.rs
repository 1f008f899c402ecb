//! What every entry point passes through: panics become codes, failures leave their words behind.

use std::cell::RefCell;
use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use pccl_core::error::{Error, ErrorKind, Result};

use crate::enums::pcclResult_t;

pub const SUCCESS: i32 = pcclResult_t::pcclSuccess as i32;
pub const TIMEOUT: i32 = pcclResult_t::pcclTimeout as i32;

thread_local! {
    static LAST_ERROR: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs the body of an entry point and turns its outcome into a result code.
pub fn entry(name: &str, body: impl FnOnce() -> Result<()>) -> i32 {
    match caught(body) {
        Ok(()) => succeeded(name),
        Err(error) => failed(name, &error),
    }
}

/// The same for what may end without an outcome in time: then `None`, and `late` says so.
pub fn timed_entry(
    name: &str,
    late: impl FnOnce() -> String,
    body: impl FnOnce() -> Result<Option<()>>,
) -> i32 {
    match caught(body) {
        Ok(Some(())) => succeeded(name),
        Ok(None) => {
            keep_words(format!("{name}: {}", late()));
            TIMEOUT
        }
        Err(error) => failed(name, &error),
    }
}

fn caught<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    // The body works on handles whose state is behind their own thread's mailbox; a panic leaves nothing half done
    // that a later call could see.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Error::new(ErrorKind::Internal, format!("a bug of the library: {text}")))
    })
}

fn succeeded(name: &str) -> i32 {
    tracing::trace!("{name}: success");
    SUCCESS
}

fn failed(name: &str, error: &Error) -> i32 {
    let words = format!("{name}: {error}");
    match error.kind {
        ErrorKind::Internal => tracing::error!("{words}"),
        // What happens to a program without its doing.
        ErrorKind::Aborted
        | ErrorKind::MasterConnectionFailed
        | ErrorKind::PeerConnectionFailed
        | ErrorKind::TopologyOptimizationFailed => tracing::warn!("{words}"),
        _ => tracing::info!("{words}"),
    }
    keep_words(words);
    error.kind.code()
}

/// A thread that is being torn down has no place for words left; the code still tells.
fn keep_words(words: String) {
    let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = words);
}

/// The last failure in this thread.
pub fn last_error() -> String {
    LAST_ERROR.try_with(|last| last.borrow().clone()).unwrap_or_default()
}

pub fn invalid(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, reason)
}

/// The place behind a pointer that must not be NULL.
///
/// # Safety
/// If not NULL, `pointer` is valid for reads as the header says of this argument.
pub unsafe fn required<'a, T>(pointer: *const T, name: &str) -> Result<&'a T> {
    // SAFETY: the caller's contract.
    unsafe { pointer.as_ref() }.ok_or_else(|| invalid(format!("{name} is NULL")))
}

/// The C string behind a pointer that must not be NULL.
///
/// # Safety
/// If not NULL, `pointer` is a C string that nobody changes meanwhile.
pub unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str> {
    if pointer.is_null() {
        return Err(invalid(format!("{name} is NULL")));
    }
    // SAFETY: the caller's contract; it was checked for NULL.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|error| invalid(format!("{name} is no UTF-8: {error}")))
}

pub fn not_null<T>(pointer: *mut T, name: &str) -> Result<*mut T> {
    if pointer.is_null() { Err(invalid(format!("{name} is NULL"))) } else { Ok(pointer) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_code_and_words() {
        assert_eq!(entry("pcclTest", || panic!("planted {}", 7)), ErrorKind::Internal.code());
        assert!(last_error().contains("pcclTest") && last_error().contains("planted 7"), "{}", last_error());
    }

    #[test]
    fn the_words_of_a_failure_outlive_a_success() {
        assert_eq!(entry("pcclOne", || Err(invalid("count is 0"))), ErrorKind::InvalidArgument.code());
        assert_eq!(entry("pcclTwo", || Ok(())), SUCCESS);
        assert_eq!(last_error(), "pcclOne: invalid argument: count is 0");
    }
}
