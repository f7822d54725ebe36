//! Simulated migrations, judged by the crate's own verdict. Used by the test and by `make simulate`. Seeds are fixed.
//!
//! What is simplified against real traffic: requests and failures are drawn as counts for each pull of five seconds and
//! spread over the groups of users only when they are looked at, which gives the same distribution.

pub(crate) mod detection;
pub(crate) mod draw;
pub(crate) mod migration;
pub(crate) mod promise;
pub(crate) mod step;

/// Runs `count` jobs on all cores and gives their results in order.
pub(crate) fn parallel<T: Send>(count: usize, job: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(count.max(1));
    let job = &job;
    let mut all: Vec<(usize, T)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || (thread..count).step_by(threads).map(|n| (n, job(n))).collect::<Vec<_>>())
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a simulation does not panic")).collect()
    });
    all.sort_by_key(|(n, _)| *n);
    all.into_iter().map(|(_, result)| result).collect()
}
