//! Codes and failures in words.

use std::ffi::{CStr, c_char};

use pccl_core::error::ErrorKind;

use crate::enums::ResultCode;
use crate::guard::{TIMEOUT, entry, last_error};

/// The table of `pcclResult_t`; the index is the code.
const WORDS: [&CStr; 13] = [
    c"success",
    c"not initialized: call pcclInit first",
    c"internal error: a bug of the library",
    c"invalid argument",
    c"invalid usage: the right arguments at the wrong moment",
    c"too few peers in the group",
    c"the connection to the master failed",
    c"a connection to another peer failed",
    c"aborted because membership changed: call again",
    c"nobody offers shared state",
    c"asynchronous operations are in flight: await them first",
    c"update of the topology failed: call again",
    c"optimization of the topology failed: call again",
];

/// A code in words, also one that is none. Never NULL; lives as long as the library is loaded, and is not freed.
///
/// Local, does not block; works before pcclInit.
#[unsafe(no_mangle)]
pub extern "C" fn pcclGetErrorString(result: ResultCode) -> *const c_char {
    let known = usize::try_from(result).ok().and_then(|code| WORDS.get(code)).copied();
    let ours = (result == TIMEOUT).then_some(c"not done in time: it goes on, wait for it again");
    known.or(ours).unwrap_or(c"unknown result code").as_ptr()
}

/// The last failure in the calling thread in words: the peer, the operation, the reason. Empty if nothing failed
/// yet; a success leaves it as it is.
///
/// Local, does not block; works before pcclInit. At most `len` bytes of `buffer` are written, the closing zero
/// included; what does not fit is cut off at the end of a character. pcclInvalidArgument: `len` is 0 or `buffer` NULL;
/// then the last failure stays what it was.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclGetLastError(buffer: *mut c_char, len: usize) -> ResultCode {
    let text = last_error();
    // What is asked for stays, also where it cannot be given.
    let Some(room) = len.checked_sub(1).filter(|_| !buffer.is_null()) else {
        return ErrorKind::InvalidArgument.code();
    };
    entry("pcclGetLastError", || {
        let cut = text.floor_char_boundary(room);
        // SAFETY: `cut + 1 <= len`, and the caller vouches for `len` bytes.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr().cast::<c_char>(), buffer, cut);
            *buffer.add(cut) = 0;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(code: ResultCode) -> &'static str {
        // SAFETY: every entry of the table is a C string that lives for ever.
        unsafe { CStr::from_ptr(pcclGetErrorString(code)) }.to_str().unwrap()
    }

    #[test]
    fn every_code_has_words() {
        assert_eq!(words(0), "success");
        assert!(words(ErrorKind::Aborted.code()).contains("call again"));
        assert!(words(TIMEOUT).contains("in time"));
        assert_eq!(words(13), "unknown result code");
        assert_eq!(words(-1), "unknown result code");
    }

    #[test]
    fn the_last_error_is_cut_to_its_place() {
        entry("pcclX", || Err(crate::guard::invalid("naïve")));
        let mut place = [1u8; 64];
        // SAFETY: the place is as long as said.
        assert_eq!(unsafe { pcclGetLastError(place.as_mut_ptr().cast(), 64) }, 0);
        assert_eq!(
            CStr::from_bytes_until_nul(&place).unwrap().to_str(),
            Ok("pcclX: invalid argument: naïve")
        );
        // SAFETY: as above.
        assert_eq!(unsafe { pcclGetLastError(place.as_mut_ptr().cast(), 6) }, 0);
        assert_eq!(&place[..7], b"pcclX\0 ");
    }
}
