//! The pods of this node: those that cgroup paths name, and what the cluster says of them.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hashbrown::HashMap;

use crate::types::{Pod, PodFacts, Qos};

/// Pods remembered: a kubelet runs 110 by default, and those that are gone are kept for a while.
pub const MAX_PODS: usize = 4096;

/// Shared by who asks (the packet loop) and who tells (the watch of the API).
#[derive(Clone, Debug)]
pub struct Pods(Arc<Mutex<Table>>);

#[derive(Debug)]
struct Table {
    /// By uid.
    pods: HashMap<Box<str>, Entry>,
    /// How long one that is gone is kept.
    grace: Duration,
    /// The last list of the API; pods that an older one told are gone.
    generation: u64,
    refused: u64,
}

#[derive(Debug)]
struct Entry {
    pod: Arc<Pod>,
    generation: u64,
    /// Since when the API does not know it. A pod seen before the API told of it counts as well.
    gone: Option<Instant>,
}

/// How many there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PodCounts {
    /// That the API knows.
    pub known: u64,
    /// That are gone, and kept for their flows or for the grace period.
    pub gone: u64,
    /// That cgroup paths name and the API has not told of.
    pub untold: u64,
    /// That found no room.
    pub refused: u64,
}

impl Pods {
    /// None. One that is gone is kept for `grace`; its flows keep what is known of it as long as they live.
    pub fn new(grace: Duration) -> Self {
        Self(Arc::new(Mutex::new(Table {
            pods: HashMap::new(),
            grace,
            generation: 0,
            refused: 0,
        })))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pod that a cgroup path names, known to the API or not. `None` if there is no room.
    pub fn of_path(&self, uid: &str, qos: Qos, now: Instant) -> Option<Arc<Pod>> {
        let mut table = self.table();
        if let Some(entry) = table.pods.get(uid) {
            return Some(entry.pod.clone());
        }
        table.insert(uid, qos, Some(now), now)
    }

    /// A list of the API begins.
    pub fn begin_list(&self) {
        let mut table = self.table();
        table.generation = table.generation.saturating_add(1);
    }

    /// The list is complete: what it did not tell is gone.
    pub fn end_list(&self, now: Instant) {
        let mut table = self.table();
        let generation = table.generation;
        for entry in table.pods.values_mut().filter(|e| e.generation < generation) {
            entry.gone.get_or_insert(now);
        }
        table.sweep(now);
    }

    /// The API tells of a pod.
    pub fn tell(&self, uid: &str, qos: Qos, facts: PodFacts, now: Instant) {
        let mut table = self.table();
        let generation = table.generation;
        if !table.pods.contains_key(uid) {
            table.insert(uid, qos, None, now);
        }
        if let Some(entry) = table.pods.get_mut(uid) {
            entry.generation = generation;
            entry.gone = None;
            entry.pod.tell(Arc::new(facts));
        }
    }

    /// The API says that a pod is gone.
    pub fn gone(&self, uid: &str, now: Instant) {
        let mut table = self.table();
        if let Some(entry) = table.pods.get_mut(uid) {
            entry.gone.get_or_insert(now);
        }
        table.sweep(now);
    }

    /// How many there are.
    pub fn counts(&self) -> PodCounts {
        let table = self.table();
        let mut counts = PodCounts {
            refused: table.refused,
            ..PodCounts::default()
        };
        for entry in table.pods.values() {
            let count = match (entry.gone, entry.pod.facts()) {
                (_, None) => &mut counts.untold,
                (Some(_), _) => &mut counts.gone,
                (None, _) => &mut counts.known,
            };
            *count = count.saturating_add(1);
        }
        counts
    }
}

impl Table {
    fn insert(&mut self, uid: &str, qos: Qos, gone: Option<Instant>, now: Instant) -> Option<Arc<Pod>> {
        if self.pods.len() >= MAX_PODS {
            self.sweep(now);
        }
        if self.pods.len() >= MAX_PODS {
            self.refused = self.refused.saturating_add(1);
            return None;
        }
        let pod = Arc::new(Pod::new(uid, qos));
        let entry = Entry {
            pod: pod.clone(),
            generation: self.generation,
            gone,
        };
        self.pods.insert(uid.into(), entry);
        Some(pod)
    }

    /// Forgets what is gone and out of grace. One that the API may still tell of is kept while it is in use,
    /// if there is room.
    fn sweep(&mut self, now: Instant) {
        let (grace, full) = (self.grace, self.pods.len() >= MAX_PODS);
        self.pods.retain(|_, entry| {
            let over = entry
                .gone
                .is_some_and(|since| now.saturating_duration_since(since) > grace);
            let awaited = !full && Arc::strong_count(&entry.pod) > 1 && entry.pod.facts().is_none();
            !over || awaited
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(60);

    fn facts(name: &str) -> PodFacts {
        PodFacts {
            name: name.into(),
            ..PodFacts::default()
        }
    }

    #[test]
    fn what_the_api_tells_later_reaches_a_pod_seen_before() {
        let (pods, now) = (Pods::new(GRACE), Instant::now());
        let seen = pods.of_path("a", Qos::Burstable, now).unwrap();
        assert!(seen.facts().is_none());
        assert_eq!(pods.counts().untold, 1);
        pods.tell("a", Qos::Burstable, facts("agent"), now);
        assert_eq!(&*seen.facts().unwrap().name, "agent");
        assert!(Arc::ptr_eq(
            &seen,
            &pods.of_path("a", Qos::Burstable, now).unwrap()
        ));
    }

    #[test]
    fn a_pod_that_is_gone_stays_for_its_flows_and_the_grace_period() {
        let (pods, start) = (Pods::new(GRACE), Instant::now());
        pods.tell("a", Qos::Burstable, facts("agent"), start);
        let flow = pods.of_path("a", Qos::Burstable, start);
        pods.gone("a", start);
        assert_eq!(pods.counts().gone, 1);
        pods.end_list(start + GRACE / 2);
        assert_eq!(pods.counts().gone, 1, "in the grace period");
        pods.end_list(start + GRACE * 2);
        assert_eq!(pods.counts(), PodCounts::default());
        assert_eq!(
            &*flow.unwrap().facts().unwrap().name,
            "agent",
            "its flow knows it"
        );
    }

    #[test]
    fn one_that_the_api_has_not_told_of_is_kept_while_it_is_in_use() {
        let (pods, start) = (Pods::new(GRACE), Instant::now());
        let flow = pods.of_path("a", Qos::Burstable, start);
        pods.end_list(start + GRACE * 2);
        assert_eq!(pods.counts().untold, 1);
        drop(flow);
        pods.end_list(start + GRACE * 2);
        assert_eq!(pods.counts(), PodCounts::default());
    }

    #[test]
    fn a_list_tells_which_are_gone() {
        let (pods, now) = (Pods::new(GRACE), Instant::now());
        for uid in ["a", "b"] {
            pods.tell(uid, Qos::Burstable, facts(uid), now);
        }
        pods.begin_list();
        pods.tell("b", Qos::Burstable, facts("b"), now);
        pods.end_list(now);
        let counts = pods.counts();
        assert_eq!((counts.known, counts.gone), (1, 1));
    }

    #[test]
    fn the_table_is_bounded() {
        let (pods, now) = (Pods::new(GRACE), Instant::now());
        for n in 0..MAX_PODS {
            pods.of_path(&n.to_string(), Qos::Burstable, now);
        }
        assert!(pods.of_path("x", Qos::Burstable, now).is_none());
        assert_eq!(pods.counts().refused, 1);
        let later = now + GRACE * 2;
        assert!(pods.of_path("x", Qos::Burstable, later).is_some(), "room again");
    }
}
