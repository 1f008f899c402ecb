//! What a test runner says in its closing line.

use std::ops::AddAssign;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Reads a runner's output line by line.
#[derive(Debug, Default)]
pub struct Reader {
    tally: Option<Tally>,
}

impl Reader {
    /// Takes one line; colours are ignored.
    pub fn read(&mut self, line: &str) {
        let line = without_colours(line);
        let line = line.trim();
        let found = if let Some(rest) = line.strip_prefix("test result: ") {
            Some(cargo_test(rest))
        } else if line.starts_with("Summary [") {
            line.split_once("run:").map(|(_, rest)| nextest(rest))
        } else if let Some((counts, seconds)) = line.rsplit_once(" in ") {
            seconds.starts_with(|c: char| c.is_ascii_digit()).then(|| pytest(counts)).flatten()
        } else {
            None
        };
        if let Some(found) = found {
            *self.tally.get_or_insert_default() += found;
        }
    }

    /// The sum of the closing lines; `None` if there was none.
    pub fn tally(&self) -> Option<Tally> {
        self.tally
    }
}

fn without_colours(line: &str) -> String {
    let mut plain = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            chars.by_ref().find(|c| c.is_ascii_alphabetic());
        } else {
            plain.push(c);
        }
    }
    plain
}

/// The number before a word: `3 passed`.
fn before(text: &str, word: &str) -> u64 {
    text.split([',', ';', '(']).filter(|part| part.contains(word)).find_map(number_in).unwrap_or(0)
}

fn number_in(part: &str) -> Option<u64> {
    part.split(|c: char| !c.is_ascii_digit()).find_map(|digits| digits.parse().ok())
}

fn cargo_test(rest: &str) -> Tally {
    Tally { passed: before(rest, "passed"), failed: before(rest, "failed"), skipped: before(rest, "ignored") }
}

fn nextest(rest: &str) -> Tally {
    let failed = before(rest, "failed") + before(rest, "timed out") + before(rest, "exec failed");
    Tally { passed: before(rest, "passed"), failed, skipped: before(rest, "skipped") }
}

/// `1 failed, 125 passed, 4 skipped`; every part is a number and a word.
fn pytest(counts: &str) -> Option<Tally> {
    let counts = counts.trim_matches(['=', ' ']);
    const WORDS: [&str; 8] =
        ["passed", "failed", "error", "errors", "skipped", "warning", "warnings", "deselected"];
    let is_count = |part: &str| {
        let (number, word) = part.trim().split_once(' ')?;
        (number.parse::<u64>().is_ok() && WORDS.contains(&word)).then_some(())
    };
    let failed = before(counts, "failed") + before(counts, "error");
    counts.split(',').all(|part| is_count(part).is_some()).then(|| Tally {
        passed: before(counts, "passed"),
        failed,
        skipped: before(counts, "skipped"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Tally> {
        let mut reader = Reader::default();
        text.lines().for_each(|line| reader.read(line));
        reader.tally()
    }

    fn tally(passed: u64, failed: u64, skipped: u64) -> Option<Tally> {
        Some(Tally { passed, failed, skipped })
    }

    #[test]
    fn closing_lines_of_cargo_test_are_summed() {
        let text = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 5 filtered out; finished in 0.02s\n\
                    test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 9s";
        assert_eq!(read(text), tally(13, 2, 1));
    }

    #[test]
    fn closing_lines_of_nextest_are_read_with_colours() {
        let text = "\u{1b}[32;1m     Summary\u{1b}[0m [   0.03s] \u{1b}[1m18\u{1b}[0m tests run: 17 passed (1 slow), 1 failed, 4 skipped";
        assert_eq!(read(text), tally(17, 1, 4));
    }

    #[test]
    fn closing_lines_of_pytest_are_read() {
        assert_eq!(read("127 passed, 4 skipped in 23.20s"), tally(127, 0, 4));
        assert_eq!(read("==== 1 failed, 2 passed, 1 skipped, 3 errors in 0.10s ====\n"), tally(2, 4, 1));
        assert_eq!(read("==== 1 failed, 2 passed in 67.36s (0:01:07) ===="), tally(2, 1, 0));
        assert_eq!(read("1 thing, as it was in 1999"), None);
    }

    #[test]
    fn a_runner_that_says_nothing_has_no_tally() {
        assert_eq!(read("Compiling pccl\nOK\n"), None);
    }
}
