//! Waiting for a condition, in place of sleeping: short steps, a limit, and an error that says what was seen last.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The first pause between two looks, and the longest: what waits measure is published, so they look often.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// What a look may take beyond the limit: one that began in time is not lost to a busy machine.
const GRACE: Duration = Duration::from_secs(1);

/// Looks until `look` returns a value, at most for `limit`; the last look is at the limit.
///
/// `Ok(Some(value))` ends the wait. `Ok(None)` and errors are looked at again: while something comes up, errors are
/// normal; the last one is part of the error of a wait that took too long.
pub async fn wait_for<T, F>(what: &str, limit: Duration, mut look: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let started = Instant::now();
    let left = || limit.saturating_sub(started.elapsed());
    let mut pause = FIRST_PAUSE;
    let mut seen = String::from("it was not so");
    loop {
        let last = left().is_zero();
        match tokio::time::timeout(left() + GRACE, look()).await {
            Ok(Ok(Some(value))) => return Ok(value),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => seen = format!("{error:#}"),
            Err(_) => seen = format!("{seen}; the last look did not end"),
        }
        if last {
            bail!("waited {:.1} s for {what}; last seen: {seen}", started.elapsed().as_secs_f64());
        }
        tokio::time::sleep(pause.min(left())).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// As [`wait_for`], for conditions that are just true or not.
pub async fn wait_until<F>(what: &str, limit: Duration, mut look: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = Result<bool>>,
{
    wait_for(what, limit, || {
        let look = look();
        async move { Ok(look.await?.then_some(())) }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use anyhow::anyhow;

    use super::*;

    #[tokio::test]
    async fn errors_on_the_way_do_not_end_the_wait() {
        let looks = Cell::new(0);
        let look = || async {
            looks.set(looks.get() + 1);
            if looks.get() < 3 { Err(anyhow!("not there")) } else { Ok(Some(looks.get())) }
        };
        assert_eq!(wait_for("it", Duration::from_secs(10), look).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_wait_that_takes_too_long_says_what_was_seen_last() {
        let look = || async { Err(anyhow!("two pods of three")) };
        let error = wait_until("three pods", Duration::from_millis(10), look).await.unwrap_err().to_string();
        assert!(error.contains("three pods") && error.contains("two pods of three"), "{error}");
    }

    #[tokio::test]
    async fn what_is_so_at_the_limit_is_seen() {
        let limit = Duration::from_millis(150);
        let started = Instant::now();
        wait_until("the limit", limit, || async { Ok(started.elapsed() >= limit) }).await.unwrap();
    }
}
