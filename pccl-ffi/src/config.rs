//! Settings by key, for what the fixed structs have no field for.

use std::ffi::c_char;

use pccl_core::api::{Communicator, Master, Result};

use crate::enums::ResultCode;
use crate::guard::{entry, not_null, text};

/// Settings by key, for what the fixed structs have no field for.
#[derive(Debug, Default)]
pub struct Config {
    /// In the order in which they were set.
    settings: Vec<(String, String)>,
}

impl Config {
    /// All settings on a builder, by its `set`. What a builder does not have is an error, which names what it has.
    pub fn apply<B>(&self, builder: B, set: impl Fn(B, &str, &str) -> Result<B>) -> Result<B> {
        self.settings.iter().try_fold(builder, |builder, (key, value)| set(builder, key, value))
    }

    /// A setting of communicators or of masters, with a value that one of them takes.
    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let communicator = Communicator::builder("").set(key, value).map(drop);
        communicator.or_else(|error| Master::builder("").set(key, value).map(drop).map_err(|_| error))?;
        self.settings.push((key.to_owned(), value.to_owned()));
        Ok(())
    }
}

/// Settings, without any set. The caller's until pcclConfigDestroy. Local, does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclConfigCreate(config_out: *mut *mut Config) -> ResultCode {
    entry("pcclConfigCreate", || {
        let config_out = not_null(config_out, "config_out")?;
        // SAFETY: the contract of this function; it was checked for NULL.
        unsafe { config_out.write(Box::into_raw(Box::default())) };
        Ok(())
    })
}

/// One setting of communicators or of masters by its key: docs/SETTINGS.md has them all. The environment,
/// PCCL_<KEY>, overrides it when the communicator or master is made.
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
        let config = not_null(config, "config")?;
        // SAFETY: the contract of this function; it was checked for NULL.
        let (config, key, value) = unsafe { (&mut *config, text(key, "key")?, text(value, "value")?) };
        config.set(key, value)
    })
}

/// Frees settings. Communicators and masters made with them keep what they were given. Local, does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pcclConfigDestroy(config: *mut Config) -> ResultCode {
    entry("pcclConfigDestroy", || {
        let config = not_null(config, "config")?;
        // SAFETY: the contract of this function: it came from `pcclConfigCreate`, and this is its end.
        drop(unsafe { Box::from_raw(config) });
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_either_kind_are_taken_and_others_are_not() {
        let mut config = Config::default();
        assert_eq!(config.set("pool", "3"), Ok(()));
        assert_eq!(config.set("schedule", "ring"), Ok(()), "a setting of masters");
        let unknown = config.set("polo", "3").unwrap_err();
        assert!(unknown.reason.contains("there is no setting \"polo\"; there are"), "{unknown}");
        assert!(config.set("pool", "many").is_err());
        assert_eq!(config.settings.len(), 2);
    }
}
