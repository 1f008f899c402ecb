//! What every entry point passes through: panics become codes, failures leave their words behind.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pccl_core::error::{Error, ErrorKind, Result};

pub const SUCCESS: i32 = 0;

thread_local! {
    static LAST_ERROR: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs the body of an entry point and turns its outcome into a result code.
pub fn entry(name: &str, body: impl FnOnce() -> Result<()>) -> i32 {
    // The body works on handles whose state is behind their own thread's mailbox; a panic leaves nothing half done
    // that a later call could see.
    let outcome = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Error::new(ErrorKind::Internal, format!("a bug of the library: {text}")))
    });
    match outcome {
        Ok(()) => SUCCESS,
        Err(error) => {
            // A thread that is being torn down has no place for words left; the code still tells.
            let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = format!("{name}: {error}"));
            error.kind.code()
        }
    }
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
