//! The cache under a scripted resolver and tokio's paused time.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::FutureExt;
use futures::future::join_all;
use tokio::task::yield_now;
use tokio::time::advance;

use super::*;

/// What the fake resolver does next, and how often it was asked. Each answer is one address with the number of the look-up.
struct Script {
    asked: AtomicU32,
    next: Mutex<Next>,
}

#[derive(Clone, Copy)]
enum Next {
    Answer,
    Fail,
    Hang,
}

impl Script {
    fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }

    fn then(&self, next: Next) {
        *self.next.lock().unwrap() = next;
    }
}

fn scripted() -> (Resolver, Arc<Script>) {
    let script = Arc::new(Script { asked: AtomicU32::new(0), next: Mutex::new(Next::Answer) });
    let inner = Arc::clone(&script);
    let resolver = Resolver::with_lookup(move |_| {
        let number = inner.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let next = *inner.next.lock().unwrap();
        async move {
            yield_now().await;
            match next {
                Next::Answer => Ok(vec![IpAddr::V4(Ipv4Addr::from_bits(number))]),
                Next::Fail => Err(io::Error::other("SERVFAIL")),
                Next::Hang => std::future::pending().await,
            }
        }
        .boxed()
    });
    (resolver, script)
}

/// The number of the look-up that the answer came from.
async fn answer(resolver: &Resolver) -> u32 {
    match resolver.resolve("vendor.test").await.unwrap()[0] {
        IpAddr::V4(v4) => v4.to_bits(),
        IpAddr::V6(_) => panic!("the script answers IPv4"),
    }
}

#[tokio::test(start_paused = true)]
async fn callers_at_the_same_time_share_one_look_up() {
    let (resolver, script) = scripted();
    let answers = join_all((0..50).map(|_| answer(&resolver))).await;
    assert!(answers.iter().all(|number| *number == 1));
    assert_eq!(script.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_fresh_for_thirty_seconds() {
    let (resolver, script) = scripted();
    assert_eq!(answer(&resolver).await, 1);
    advance(REFRESH - Duration::from_millis(1)).await;
    assert_eq!((answer(&resolver).await, script.asked()), (1, 1));
    advance(FRESH).await;
    assert_eq!((answer(&resolver).await, script.asked()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_name_in_use_is_looked_up_before_its_answer_ends_and_nobody_waits() {
    let (resolver, script) = scripted();
    answer(&resolver).await;
    advance(REFRESH).await;
    assert_eq!(resolver.resolve("vendor.test").now_or_never().unwrap().unwrap()[0], Ipv4Addr::from_bits(1));
    while resolver.names()["vendor.test"].flight.is_some() {
        yield_now().await;
    }
    assert_eq!((answer(&resolver).await, script.asked()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn an_old_answer_serves_while_look_ups_fail_and_they_are_not_repeated_at_once() {
    let (resolver, script) = scripted();
    answer(&resolver).await;
    script.then(Next::Fail);
    advance(FRESH).await;
    assert_eq!((answer(&resolver).await, script.asked()), (1, 2));
    assert_eq!((answer(&resolver).await, script.asked()), (1, 2));
    advance(PAUSE).await;
    assert_eq!((answer(&resolver).await, script.asked()), (1, 3));
    script.then(Next::Answer);
    advance(PAUSE).await;
    assert_eq!((answer(&resolver).await, script.asked()), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_too_old_does_not_serve() {
    let (resolver, script) = scripted();
    answer(&resolver).await;
    script.then(Next::Fail);
    advance(STALE).await;
    let error = resolver.resolve("vendor.test").await.unwrap_err();
    assert_eq!(error.to_string(), "vendor.test: SERVFAIL");
}

#[tokio::test(start_paused = true)]
async fn a_slow_look_up_keeps_nobody_from_the_old_answer() {
    let (resolver, script) = scripted();
    answer(&resolver).await;
    script.then(Next::Hang);
    advance(FRESH).await;
    let start = Instant::now();
    assert_eq!(answer(&resolver).await, 1);
    assert!(start.elapsed() <= PATIENCE + Duration::from_millis(1));
    assert_eq!(script.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn failures_are_not_kept() {
    let (resolver, script) = scripted();
    script.then(Next::Fail);
    assert!(resolver.resolve("vendor.test").await.is_err());
    script.then(Next::Answer);
    assert_eq!(answer(&resolver).await, 2);
}

#[tokio::test(start_paused = true)]
async fn literal_addresses_are_not_looked_up() {
    let (resolver, script) = scripted();
    assert_eq!(resolver.resolve("10.1.2.3").await.unwrap()[0], Ipv4Addr::new(10, 1, 2, 3));
    assert!(resolver.resolve("2001:db8::1").await.unwrap()[0].is_ipv6());
    assert_eq!(script.asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_number_of_names_is_bounded_and_the_longest_unused_goes_first() {
    let (resolver, script) = scripted();
    for number in 0..NAMES + 10 {
        resolver.resolve(&format!("name-{number}.test")).await.unwrap();
        advance(Duration::from_millis(1)).await;
        resolver.resolve("name-0.test").await.unwrap();
    }
    assert_eq!(resolver.names().len(), NAMES);
    assert_eq!(script.asked() as usize, NAMES + 10);
}

#[tokio::test]
async fn repeated_addresses_and_empty_answers_are_dealt_with() {
    let resolver = Resolver::with_lookup(|host| {
        async move {
            let one = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
            Ok(if &*host == "empty.test" { Vec::new() } else { vec![one, one] })
        }
        .boxed()
    });
    assert_eq!(resolver.resolve("twice.test").await.unwrap().len(), 1);
    let error = resolver.resolve("empty.test").await.unwrap_err();
    assert_eq!(error.to_string(), "empty.test: the name has no address");
}
