//! The handles that programs hold: numbers in the form of pointers. Whatever is behind one is looked up, so that one which was
//! destroyed, or never given out, is an error and no access to memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};
use std::{process, ptr};

use pccl_core::error::{Error, ErrorKind, Result};

use crate::communicator::Comm;
use crate::config::Config;
use crate::guard::invalid;
use crate::master::MasterInstanceState;

/// Beyond the first pages, where a pointer looks wrong to some runtimes, and apart as aligned pointers are.
const FIRST_NUMBER: usize = 1 << 16;
const STEP: usize = 16;

/// None is given out twice while the library is loaded: an old handle is never taken for a new one.
static NEXT_NUMBER: AtomicUsize = AtomicUsize::new(FIRST_NUMBER);
/// Not on the heap: a library that is unloaded leaves nothing there.
static OF_THE_FIRST_PROCESS: Table = Table::new(0, FIRST_NUMBER);
/// Of a forked child; NULL: the first.
static OF_A_CHILD: AtomicPtr<Table> = AtomicPtr::new(ptr::null_mut());

/// What a program can hold, from whatever thread.
pub trait Handle: Send + Sync + Sized + 'static {
    const WHAT: &'static str;

    fn shelf(table: &Table) -> &Shelf<Self>;
}

impl Handle for Comm {
    const WHAT: &'static str = "communicator";

    fn shelf(table: &Table) -> &Shelf<Comm> {
        &table.communicators
    }
}

impl Handle for MasterInstanceState {
    const WHAT: &'static str = "master";

    fn shelf(table: &Table) -> &Shelf<MasterInstanceState> {
        &table.masters
    }
}

impl Handle for Config {
    const WHAT: &'static str = "configuration";

    fn shelf(table: &Table) -> &Shelf<Config> {
        &table.configs
    }
}

#[derive(Debug)]
struct Held<T> {
    thing: T,
    /// Calls that found it before may be under way still.
    destroyed: AtomicBool,
}

/// What is alive, by its number.
#[derive(Debug)]
pub struct Shelf<T>(RwLock<BTreeMap<usize, Arc<Held<T>>>>);

impl<T> Shelf<T> {
    const fn new() -> Shelf<T> {
        Shelf(RwLock::new(BTreeMap::new()))
    }

    fn get(&self, number: usize) -> Option<Arc<Held<T>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    fn put(&self, number: usize, thing: T) {
        self.lock().insert(number, Arc::new(Held { thing, destroyed: AtomicBool::new(false) }));
    }

    fn take(&self, number: usize) -> Option<Arc<Held<T>>> {
        let mut living = self.lock();
        let taken = living.remove(&number);
        if living.is_empty() {
            // An empty map may keep memory, a new one has none.
            *living = BTreeMap::new();
        }
        taken
    }

    fn lock(&self) -> RwLockWriteGuard<'_, BTreeMap<usize, Arc<Held<T>>>> {
        // Nothing that can panic leaves it half done.
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handles of one process. A forked child has one of its own: the locks of its parent's may be held by threads that are
/// not there.
#[derive(Debug)]
pub struct Table {
    /// 0: of the first one that asks.
    pid: AtomicU32,
    /// Lower numbers came with the fork.
    first: usize,
    communicators: Shelf<Comm>,
    masters: Shelf<MasterInstanceState>,
    configs: Shelf<Config>,
    /// What came with the fork and was destroyed here.
    let_go: Mutex<BTreeSet<usize>>,
}

impl Table {
    const fn new(pid: u32, first: usize) -> Table {
        Table {
            pid: AtomicU32::new(pid),
            first,
            communicators: Shelf::new(),
            masters: Shelf::new(),
            configs: Shelf::new(),
            let_go: Mutex::new(BTreeSet::new()),
        }
    }

    fn of_this_process() -> &'static Table {
        let pid = process::id();
        let present = OF_A_CHILD.load(Ordering::Acquire);
        // SAFETY: it is NULL, or came from a box that is never freed.
        let table = unsafe { present.as_ref() }.unwrap_or(&OF_THE_FIRST_PROCESS);
        match table.pid.compare_exchange(0, pid, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return table,
            Err(owner) if owner == pid => return table,
            Err(_) => {}
        }
        let own = Box::into_raw(Box::new(Table::new(pid, NEXT_NUMBER.load(Ordering::Acquire))));
        match OF_A_CHILD.compare_exchange(present, own, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: it came from a box, and is never freed.
            Ok(_) => unsafe { &*own },
            Err(others) => {
                // SAFETY: nobody else has it.
                drop(unsafe { Box::from_raw(own) });
                // SAFETY: as above; another thread of this process came first.
                unsafe { &*others }
            }
        }
    }

    fn came_with_a_fork(&self, number: usize) -> bool {
        (FIRST_NUMBER..self.first).contains(&number) && number.is_multiple_of(STEP)
    }

    fn let_go(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.let_go.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A new handle. It points to nothing.
pub fn give_out<T: Handle>(thing: T) -> Result<*mut T> {
    let table = Table::of_this_process();
    let next = |number: usize| number.checked_add(STEP);
    let number = NEXT_NUMBER.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
    let number = number.map_err(|_| Error::new(ErrorKind::Internal, "there are no more handles"))?;
    T::shelf(table).put(number, thing);
    Ok(ptr::without_provenance_mut(number))
}

/// Makes a call on what a handle stands for, which lives until it has returned. If it fails while another thread destroys
/// the handle, it fails for that.
pub fn with<T: Handle, R>(handle: *const T, argument: &str, call: impl FnOnce(&T) -> Result<R>) -> Result<R> {
    let number = not_null(handle, argument)?;
    let table = Table::of_this_process();
    if table.came_with_a_fork(number) && !table.let_go().contains(&number) {
        let reason = format!(
            "this {} was made by another process and cannot be used after a fork: make a new one in the child",
            T::WHAT
        );
        return Err(Error::new(ErrorKind::InvalidUsage, reason));
    }
    let held = T::shelf(table).get(number).ok_or_else(|| unknown::<T>(argument))?;
    call(&held.thing).map_err(|error| match held.destroyed.load(Ordering::Acquire) {
        true => invalid(format!("{argument} was destroyed while this call was under way ({error})")),
        false => error,
    })
}

/// The end of a handle, and by `end` of what other threads do with it.
pub fn destroy<T: Handle>(handle: *const T, argument: &str, end: impl FnOnce(&T)) -> Result<()> {
    let number = not_null(handle, argument)?;
    let table = Table::of_this_process();
    if table.came_with_a_fork(number) {
        // What it stands for is the parent's.
        return match table.let_go().insert(number) {
            true => Ok(()),
            false => Err(unknown::<T>(argument)),
        };
    }
    let held = T::shelf(table).take(number).ok_or_else(|| unknown::<T>(argument))?;
    held.destroyed.store(true, Ordering::Release);
    end(&held.thing);
    Ok(())
}

fn not_null<T>(handle: *const T, argument: &str) -> Result<usize> {
    match handle.is_null() {
        true => Err(invalid(format!("{argument} is NULL"))),
        false => Ok(handle.addr()),
    }
}

fn unknown<T: Handle>(argument: &str) -> Error {
    invalid(format!("{argument} is no {}: it was destroyed, or never made", T::WHAT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_ends_once_and_is_not_given_out_again() {
        let old = give_out(Config::default()).unwrap();
        assert_eq!(with(old, "config", |_| Ok(7)), Ok(7));
        assert_eq!(destroy(old, "config", |_| ()), Ok(()));
        for _ in 0..3 {
            let new = give_out(Config::default()).unwrap();
            assert_ne!(old, new);
            destroy(new, "config", |_| ()).unwrap();
        }
        let reason = "config is no configuration: it was destroyed, or never made";
        assert_eq!(destroy(old, "config", |_| ()), Err(invalid(reason)));
        assert_eq!(with(old, "config", |_| Ok(())), Err(invalid(reason)));
    }

    #[test]
    fn a_handle_of_another_kind_is_none() {
        let config = give_out(Config::default()).unwrap();
        let reason = with(config.cast::<Comm>(), "comm", |_| Ok(())).unwrap_err().reason;
        assert_eq!(reason, "comm is no communicator: it was destroyed, or never made");
        assert!(with(ptr::dangling::<Comm>(), "comm", |_| Ok(())).is_err());
        assert_eq!(with(ptr::null::<Comm>(), "comm", |_| Ok(())), Err(invalid("comm is NULL")));
        destroy(config, "config", |_| ()).unwrap();
    }

    #[test]
    fn what_is_destroyed_under_a_call_lives_until_it_has_returned() {
        let config = give_out(Config::default()).unwrap();
        let outcome: Result<()> = with(config, "config", |inside| {
            destroy(config, "config", |_| ()).unwrap();
            inside.set("pool", "3").unwrap();
            Err(Error::new(ErrorKind::Aborted, "left"))
        });
        let error = outcome.unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
        assert!(error.reason.contains("destroyed while"), "{error}");
    }

    #[test]
    fn numbers_from_before_a_fork_are_told_from_those_after_it() {
        let table = Table::new(1, FIRST_NUMBER + 2 * STEP);
        assert!(table.came_with_a_fork(FIRST_NUMBER) && table.came_with_a_fork(FIRST_NUMBER + STEP));
        for number in [0, 1, STEP, FIRST_NUMBER + 1, FIRST_NUMBER + 2 * STEP, usize::MAX] {
            assert!(!table.came_with_a_fork(number), "{number}");
        }
    }
}
