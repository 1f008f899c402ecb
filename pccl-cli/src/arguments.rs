//! How sizes, rates and times are written, on the command line and back.

use std::time::Duration;

use bytesize::ByteSize;

use crate::fleet::HEADER;

const ELEMENT_BYTES: u64 = 4;
const MAX_SIZE: ByteSize = ByteSize::gib(16);

/// `64MiB`, `1.5 GB`, `4096`: bytes of a vector of f32.
pub fn size_bytes(text: &str) -> Result<u64, String> {
    let size: ByteSize = text.parse().map_err(|_| "write it as 64MiB, 1GB or 4096".to_string())?;
    let least = (HEADER as u64 + 1) * ELEMENT_BYTES;
    if size < ByteSize::b(least) || size > MAX_SIZE {
        return Err(format!("must be from {least} bytes to {}", MAX_SIZE.display().iec()));
    }
    if !size.as_u64().is_multiple_of(ELEMENT_BYTES) {
        return Err(format!("must be a multiple of {ELEMENT_BYTES} bytes, the size of an f32"));
    }
    Ok(size.as_u64())
}

/// `3s`, `500ms`, `1m 30s`, or a plain number of seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
    seconds
        .or_else(|| humantime::parse_duration(text).ok())
        .filter(|d| !d.is_zero() && *d <= Duration::from_secs(86_400 * 365))
        .ok_or("write it as 20, 3s, 500ms or 2min".into())
}

/// The size as a person writes it.
pub fn size_text(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// A rate as a person reads it: 10⁹ bytes a second, or 10⁶ where that would be all zeros.
pub fn rate_text(bytes_per_s: f64) -> String {
    if bytes_per_s < 1e8 {
        format!("{:.1} MB/s", bytes_per_s / 1e6)
    } else {
        format!("{:.2} GB/s", bytes_per_s / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_decimal_or_plain_bytes() {
        assert_eq!(size_bytes("64MiB"), Ok(64 << 20));
        assert_eq!(size_bytes("64 MiB"), Ok(64 << 20));
        assert_eq!(size_bytes("1MB"), Ok(1_000_000));
        assert_eq!(size_bytes("1.5 GiB"), Ok(3 << 29));
        assert_eq!(size_bytes("4096"), Ok(4096));
    }

    #[test]
    fn a_size_that_cannot_be_says_what_can() {
        for (text, hint) in
            [("much", "64MiB"), ("", "64MiB"), ("0", "36 bytes"), ("1TiB", "16"), ("4097", "multiple of 4")]
        {
            let error = size_bytes(text).unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn times_are_seconds_unless_a_unit_follows() {
        assert_eq!(duration("20"), Ok(Duration::from_secs(20)));
        assert_eq!(duration("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2min"), Ok(Duration::from_secs(120)));
        for bad in ["-1", "0", "soon", "", "NaN", "1e300"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_size_is_shown_as_it_was_written() {
        assert_eq!(size_text(64 << 20), "64.0 MiB");
        assert_eq!(rate_text(1.234e9), "1.23 GB/s");
        assert_eq!(rate_text(4.56e6), "4.6 MB/s");
    }
}
