//! What the library logs in this process: for roles of child processes, where no other test logs.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// For a line that is about to be written by another thread.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Default)]
pub struct Journal(Arc<(Mutex<String>, Condvar)>);

impl Journal {
    /// Takes down everything from here on, as this process's only subscriber.
    pub fn begin() -> Journal {
        let journal = Journal::default();
        let writer = journal.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone());
        subscriber.with_ansi(false).with_target(false).init();
        journal
    }

    /// The first line that has all of these in it; waits for it.
    pub fn line(&self, parts: &[&str]) -> String {
        let (text, more) = &*self.0;
        let begun = Instant::now();
        let mut text = text.lock().unwrap();
        loop {
            if let Some(line) = text.lines().find(|line| parts.iter().all(|part| line.contains(part))) {
                return line.to_owned();
            }
            if begun.elapsed() > PATIENCE {
                let whole = text.clone();
                drop(text);
                panic!("no line of the log has {parts:?}:\n{whole}");
            }
            text = more.wait_timeout(text, PATIENCE).unwrap().0;
        }
    }

    pub fn count(&self, parts: &[&str]) -> usize {
        let text = self.0.0.lock().unwrap();
        text.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
    }

    pub fn forget(&self) {
        self.0.0.lock().unwrap().clear();
    }
}

impl Write for Journal {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.0.lock().unwrap().push_str(&String::from_utf8_lossy(bytes));
        self.0.1.notify_all();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
