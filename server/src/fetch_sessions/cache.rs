//! Which fetch sessions exist, and which gives way to a new one.
//!
//! As in Kafka, without its preference for followers, which do not fetch here: a session that was
//! not used for `eviction_ms` gives way to any; an older one than that to one with more partitions.
//!
//! Invariants:
//! - `last_used` has one entry per session, `evictable` at most one, `partitions` is their sum.
//! - There are never more sessions or partitions than [`Limits`] say.

use std::{
    collections::{BTreeSet, HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::Arc,
};

use parking_lot::Mutex;

use super::{Limits, NO_SESSION, Session, Stats};

#[derive(Debug)]
struct Slot {
    session: Arc<Mutex<Session>>,
    created_ms: i64,
    last_used_ms: i64,
    /// Its partitions when it was last used.
    size: usize,
}

/// The sessions by id, and the orders in which they give way.
#[derive(Debug)]
pub(super) struct Cache {
    limits: Limits,
    slots: HashMap<i32, Slot>,
    /// (time, id), the longest unused first.
    last_used: BTreeSet<(i64, i32)>,
    /// (size, id) of sessions old enough to give way to a larger one, the smallest first.
    evictable: BTreeSet<(usize, i32)>,
    partitions: usize,
    evictions: u64,
    ids: RandomState,
    ids_given: u64,
}

impl Cache {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            slots: HashMap::new(),
            last_used: BTreeSet::new(),
            evictable: BTreeSet::new(),
            partitions: 0,
            evictions: 0,
            ids: RandomState::new(),
            ids_given: 0,
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let (partitions, evictions) = (self.partitions, self.evictions);
        Stats { sessions: self.slots.len(), partitions, evictions }
    }

    pub(super) fn get(&self, id: i32) -> Option<Arc<Mutex<Session>>> {
        self.slots.get(&id).map(|slot| Arc::clone(&slot.session))
    }

    /// Closes a session, if it is there.
    pub(super) fn remove(&mut self, id: i32) {
        let Some(slot) = self.slots.remove(&id) else { return };
        self.last_used.remove(&(slot.last_used_ms, id));
        self.evictable.remove(&(slot.size, id));
        self.partitions -= slot.size;
    }

    /// Closes this session, but not another one that has its id by now.
    pub(super) fn remove_exactly(&mut self, id: i32, session: &Arc<Mutex<Session>>) {
        if self.holds(id, session) {
            self.remove(id);
        }
    }

    /// Opens a session of `size` partitions unless none gives way to it.
    pub(super) fn create(
        &mut self,
        size: usize,
        now_ms: i64,
        open: impl FnOnce() -> Session,
    ) -> Option<i32> {
        if !self.make_room(size, now_ms) {
            return None;
        }
        let id = self.unused_id();
        let session = Arc::new(Mutex::new(open()));
        let slot = Slot { session, created_ms: now_ms, last_used_ms: now_ms, size };
        self.insert(id, slot);
        Some(id)
    }

    /// Notes that a session was used and how large it is now. False if it is gone, or has to go
    /// because all sessions together would become too large.
    pub(super) fn touch(&mut self, id: i32, session: &Arc<Mutex<Session>>, now_ms: i64) -> bool {
        if !self.holds(id, session) {
            return false;
        }
        let created_ms = self.slots.get(&id).map_or(now_ms, |slot| slot.created_ms);
        let size = session.lock().len();
        self.remove(id);
        if !self.fit(size, now_ms) {
            return false;
        }
        let session = Arc::clone(session);
        self.insert(id, Slot { session, created_ms, last_used_ms: now_ms, size });
        true
    }

    fn holds(&self, id: i32, session: &Arc<Mutex<Session>>) -> bool {
        self.slots.get(&id).is_some_and(|slot| Arc::ptr_eq(&slot.session, session))
    }

    fn insert(&mut self, id: i32, slot: Slot) {
        self.last_used.insert((slot.last_used_ms, id));
        if slot.last_used_ms - slot.created_ms > self.limits.eviction_ms {
            self.evictable.insert((slot.size, id));
        }
        self.partitions += slot.size;
        self.slots.insert(id, slot);
    }

    fn make_room(&mut self, size: usize, now_ms: i64) -> bool {
        self.fit(size, now_ms)
            && (self.slots.len() < self.limits.sessions_max
                || self.evict_unused(now_ms)
                || self.evict_smaller(size))
    }

    /// Whether `size` more partitions fit, if need be after unused sessions have given way.
    fn fit(&mut self, size: usize, now_ms: i64) -> bool {
        let fits = |held: usize, max: usize| held.checked_add(size).is_some_and(|sum| sum <= max);
        let max = self.limits.partitions_max;
        while !fits(self.partitions, max) {
            if size > max || !self.evict_unused(now_ms) {
                return false;
            }
        }
        true
    }

    fn evict_unused(&mut self, now_ms: i64) -> bool {
        let Some(&(last_used_ms, id)) = self.last_used.first() else { return false };
        let unused = now_ms - last_used_ms > self.limits.eviction_ms;
        if unused {
            self.evict(id);
        }
        unused
    }

    fn evict_smaller(&mut self, size: usize) -> bool {
        let Some(&(smallest, id)) = self.evictable.first() else { return false };
        let smaller = smallest < size;
        if smaller {
            self.evict(id);
        }
        smaller
    }

    fn evict(&mut self, id: i32) {
        self.remove(id);
        self.evictions += 1;
    }

    /// A random id, so that a session of before a restart is not taken for one of after it.
    fn unused_id(&mut self) -> i32 {
        loop {
            self.ids_given += 1;
            let random = self.ids.hash_one(self.ids_given) >> 33;
            let id = i32::try_from(random).expect("31 bits fit");
            if id != NO_SESSION && !self.slots.contains_key(&id) {
                return id;
            }
        }
    }
}
