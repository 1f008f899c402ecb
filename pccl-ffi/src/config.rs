//! Settings by key, for what the fixed structs have no field for.

use std::ffi::c_char;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pccl_core::api::{Communicator, Master, Result, check_log_level, set_log_level};
use pccl_core::config::{MasterSettings, PeerSettings, Settings};

use crate::enums::ResultCode;
use crate::guard::{entry, invalid, not_null, text};
use crate::handles;

/// Of the process, not of a communicator or master.
const LOG_LEVEL: &str = "log_level";

/// Settings by key, for what the fixed structs have no field for.
#[derive(Debug, Default)]
pub struct Config {
    /// In the order in which they were set.
    settings: Mutex<Vec<(String, String)>>,
}

impl Config {
    /// All settings on a builder, by its `set`. What a builder does not have is an error, which names what it has.
    pub fn apply<B>(&self, builder: B, set: impl Fn(B, &str, &str) -> Result<B>) -> Result<B> {
        let settings = self.lock().clone();
        settings.iter().try_fold(builder, |builder, (key, value)| match key.as_str() {
            LOG_LEVEL => set_log_level(value).map_err(invalid).map(|()| builder),
            _ => set(builder, key, value),
        })
    }

    /// A setting of communicators or of masters, with a value that one of them takes.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        if key == LOG_LEVEL {
            check_log_level(value).map_err(|why| invalid(format!("setting {key}: {why}")))?;
        } else {
            let is_known = |of: &[&str]| of.contains(&key);
            let (of_peers, of_masters) = (names::<PeerSettings>(), names::<MasterSettings>());
            match (is_known(&of_peers), is_known(&of_masters)) {
                (true, _) => Communicator::builder("").set(key, value).map(drop)?,
                (_, true) => Master::builder("").set(key, value).map(drop)?,
                _ => {
                    let (peers, masters) = (of_peers.join(", "), of_masters.join(", "));
                    return Err(invalid(format!(
                        "there is no setting {key:?}; there are {LOG_LEVEL}, of communicators {peers}, and of masters {masters}"
                    )));
                }
            }
        }
        self.lock().push((key.to_owned(), value.to_owned()));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(String, String)>> {
        // Nothing that can panic leaves it half done.
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn names<S: Settings>() -> Vec<&'static str> {
    S::KEYS.iter().map(|key| key.name).collect()
}

/// Settings, without any set. The caller's until pcclConfigDestroy. Local, does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclConfigCreate(config_out: *mut *mut Config) -> ResultCode {
    entry("pcclConfigCreate", || {
        let config_out = not_null(config_out, "config_out")?;
        // SAFETY: the contract of this function; it was checked for NULL.
        unsafe { config_out.write(handles::give_out(Config::default())?) };
        Ok(())
    })
}

/// One setting of communicators or of masters by its key: docs/SETTINGS.md has them all. The environment,
/// PCCL_<KEY>, overrides it when the communicator or master is made.
///
/// `log_level` is for both, and of the whole process from then on: off, error, warn, info, debug or trace.
///
/// Local, does not block. Both strings are UTF-8, and copied.
///
/// pcclInvalidArgument: an unknown key or an impossible value; the last error says what is possible.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclConfigSet(
    config: *mut Config,
    key: *const c_char,
    value: *const c_char,
) -> ResultCode {
    entry("pcclConfigSet", || {
        // SAFETY: the contract of this function.
        let (key, value) = unsafe { (text(key, "key")?, text(value, "value")?) };
        handles::with(config, "config", |config| config.set(key, value))
    })
}

/// Frees settings. Communicators and masters made with them keep what they were given. Local, does not block.
///
/// pcclInvalidArgument: destroyed already.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclConfigDestroy(config: *mut Config) -> ResultCode {
    entry("pcclConfigDestroy", || handles::destroy(config, "config", |_| ()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_either_kind_are_taken_and_others_are_not() {
        let config = Config::default();
        assert_eq!(config.set("pool", "3"), Ok(()));
        assert_eq!(config.set("schedule", "ring"), Ok(()), "a setting of masters");
        let unknown = config.set("polo", "3").unwrap_err();
        for word in ["there is no setting \"polo\"; there are", "pool", "schedule", "log_level"] {
            assert!(unknown.reason.contains(word), "{unknown}");
        }
        for (key, value, word) in
            [("schedule", "star", "ring"), ("silence_ms", "10", "200"), ("pool", "99", "64")]
        {
            let impossible = config.set(key, value).unwrap_err();
            assert!(impossible.reason.contains(word), "{impossible}");
        }
        assert!(config.set("pool", "many").is_err());
        let loud = config.set("log_level", "loud").unwrap_err();
        assert!(loud.reason.contains("setting log_level") && loud.reason.contains("there are off"), "{loud}");
        assert_eq!(config.set("log_level", "debug"), Ok(()));
        assert_eq!(config.lock().len(), 3);
    }
}
