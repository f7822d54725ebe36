//! Runs one copy: sends it on the other arm, once, and compares the answers.

use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bifrost_analysis::group;
use bifrost_config::{OwnProvider, ShadowPrice};
use bifrost_wire::{Ask, Peek, StreamTap, Tail, Usage, peek, usage_from_tail};
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::{Request, Response};

use super::book::{Money, Outcome};
use super::choose::{Skip, most_tokens, skip_by_content};
use super::compare::{Aspect, differences, shape, similarity};
use super::pending::{First, KEPT, Kept};
use crate::front::route::{Endpoint, Route, route};
use crate::http::{Head, LastBytes, OnwardBody};
use crate::pipeline::Inbound;
use crate::pipeline::attempt::{Failure, Raced, exchange, outbound, race};
use crate::pipeline::choose::Choice;
use crate::pipeline::decode::{self, RequestBody, stream_format};
use crate::server::drain::Stage;
use crate::server::shard::LocalSnapshot;
use crate::server::{Door, Shard};
use crate::telemetry::Copied;

/// A copy that takes longer is given up.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs the copy of a request that was answered like this.
pub(super) async fn run(shard: Rc<Shard>, kept: Kept, first: First, answer: Vec<u8>) {
    let book = shard.shared.gatherer.shadow().clone();
    let _place = match book.place() {
        Ok(place) => place,
        Err(skip) => return book.skip(skip),
    };
    let ready = match prepare(&shard, &kept, &first) {
        Ok(ready) => ready,
        Err(skip) => return book.skip(skip),
    };
    let began = Instant::now();
    let got = match ready.request {
        Some(request) => send(&shard, &ready.snapshot, ready.upstream, request, kept.endpoint).await,
        None => Got::NotSent,
    };
    let took = began.elapsed();
    if let Got::Refused(StatusCode::TOO_MANY_REQUESTS) = got {
        book.pause();
    }
    ready.money.settle_by(&got, &ready.price, ready.most_input);
    let compared = tokio::task::spawn_blocking(move || outcome(kept.endpoint, &first, &answer, &got, took)).await;
    let Ok(outcome) = compared else { return };
    book.record(&outcome);
    shard.recorder.record_copy(&Copied {
        provider: &ready.snapshot.upstreams[ready.upstream].name,
        model: &ready.model,
        kind: kept.endpoint.method_labels().0,
        stream: ready.stream_asked,
        group: group(kept.hash),
        epoch: kept.epoch,
        agrees: outcome.differences.is_empty(),
    });
}

/// A copy that may be sent.
struct Ready {
    snapshot: LocalSnapshot,
    upstream: usize,
    model: String,
    stream_asked: bool,
    /// None where the other arm would have refused it.
    request: Option<Request<OnwardBody>>,
    money: Money,
    price: ShadowPrice,
    most_input: u64,
}

/// Under the configuration that is in use now: what was taken away since the request came is not used any more.
fn prepare(shard: &Rc<Shard>, kept: &Kept, first: &First) -> Result<Ready, Skip> {
    if shard.shared.drain.stage() != Stage::Serving {
        return Err(Skip::Withdrawn);
    }
    let snapshot = shard.snapshot().ok_or(Skip::Withdrawn)?;
    let shadow = snapshot.traffic().shadow.as_ref().filter(|shadow| shadow.percent > 0).ok_or(Skip::Withdrawn)?;
    let route = route(&kept.method, &kept.path).map_err(|_| Skip::Withdrawn)?;
    let OwnProvider::One(upstream) = snapshot.own_provider(route.front) else { return Err(Skip::Withdrawn) };
    let (peek, ask) = peek(&kept.body).ok().zip(Ask::read(&kept.body)).ok_or(Skip::Body)?;
    skip_by_content(shadow, kept.endpoint, &peek, &ask)?;
    let provider = snapshot.upstreams[upstream].vendor.provider_type;
    let model = peek.model().ok_or(Skip::Price)?.to_owned();
    let price = shadow.price(provider, &model).ok_or(Skip::Price)?.clone();
    let (most_input, most_output) = most_tokens(&ask, kept.body.len(), first.usage);
    let book = shard.shared.gatherer.shadow();
    book.tick(shadow.daily_limit_of_a_pod());
    let money = book.reserve(price.cost(most_input, most_output)).ok_or(Skip::Limit)?;
    let stream_asked = peek.is_stream();
    let request = build(shard, kept, route, peek, upstream, &snapshot);
    Ok(Ready { upstream, model, stream_asked, request, money, price, most_input, snapshot: snapshot.clone() })
}

/// The request as the other arm makes it.
fn build(
    shard: &Rc<Shard>,
    kept: &Kept,
    route: Route<'_>,
    peek: Peek<'_>,
    upstream: usize,
    snapshot: &LocalSnapshot,
) -> Option<Request<OnwardBody>> {
    let inbound = Inbound {
        door: Door::Main,
        route,
        path: &kept.path,
        query: kept.query.as_deref(),
        head: Head::new(kept.headers.clone()),
    };
    let peeked = Ok(peek);
    let choice = Choice {
        arm: kept.to,
        reason: kept.reason,
        hash: kept.hash,
        upstream,
        model: peeked.as_ref().ok().and_then(Peek::model),
        renamed: false,
    };
    let body = RequestBody::Whole(kept.body.clone());
    let mut plan = decode::plan(&inbound, &choice, &body, Some(&peeked), snapshot).ok()?;
    outbound(shard, inbound, body, &mut plan, snapshot, kept.method.clone(), LastBytes::default)
        .ok()
        .map(|(request, _)| request)
}

/// What came of sending it.
enum Got {
    /// Nothing was sent.
    NotSent,
    /// It was sent, and perhaps answered in part.
    Lost,
    /// It was answered with no 2xx.
    Refused(StatusCode),
    /// A 2xx, to its end.
    Answer(Answer),
}

struct Answer {
    stream: bool,
    /// Whether a stream's regular end was seen.
    whole: bool,
    body: Vec<u8>,
    bytes: u64,
    usage: Option<Usage>,
}

/// Sends it and reads the answer, on connections that no request of a client waits for.
async fn send(
    shard: &Rc<Shard>,
    snapshot: &LocalSnapshot,
    upstream: usize,
    request: Request<OnwardBody>,
    endpoint: Endpoint,
) -> Got {
    let deadline = shard.deadlines.arm(LIMIT);
    let upstream = &snapshot.upstreams[upstream];
    let calling = async {
        let (response, lease) =
            match exchange(&shard.copies, &upstream.endpoint, upstream.network.connect_timeout(), request).await {
                Ok(done) => done,
                Err(Failure::Lost(_)) => return Got::Lost,
                Err(Failure::Connect(..) | Failure::NeverSent(_)) => return Got::NotSent,
            };
        let status = response.status();
        let is_success = status.is_success();
        match read(response, endpoint).await {
            Some(answer) => {
                shard.copies.give_back(lease);
                if is_success { Got::Answer(answer) } else { Got::Refused(status) }
            }
            None if is_success => Got::Lost,
            None => Got::Refused(status),
        }
    };
    match race(shard, &deadline, pin!(calling)).await {
        Raced::Done(got) => got,
        Raced::Late | Raced::Cutoff => Got::Lost,
    }
}

/// Reads an answer to its end; none where it breaks off.
async fn read(response: Response<Incoming>, endpoint: Endpoint) -> Option<Answer> {
    let (parts, mut body) = response.into_parts();
    let head = Head::new(parts.headers);
    let stream = head.is_event_stream();
    let mut tap = stream_format(endpoint).filter(|_| stream).map(StreamTap::new);
    let (mut tail, mut kept, mut bytes, mut seen) = (Tail::new(), Vec::new(), 0, bifrost_wire::Seen::default());
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else { break };
        let Ok(data) = frame.ok()?.into_data() else { continue };
        bytes += data.len() as u64;
        kept.extend_from_slice(&data[..data.len().min(KEPT - kept.len())]);
        match &mut tap {
            Some(tap) => seen |= tap.feed(&data),
            None => tail.push(&data),
        }
    }
    let usage = match &tap {
        Some(tap) => tap.usage(),
        None => usage_from_tail(tail.bytes()),
    };
    Some(Answer { stream, whole: !stream || (seen.end && !seen.error), body: kept, bytes, usage })
}

impl Money {
    /// A vendor bills what it answered with a 2xx, and perhaps what was cut off.
    fn settle_by(self, got: &Got, price: &ShadowPrice, most_input: u64) {
        match got {
            Got::NotSent | Got::Refused(_) => self.settle(0),
            Got::Lost => drop(self),
            Got::Answer(Answer { usage: Some(usage), .. }) => {
                self.settle(price.cost(usage.input_tokens, usage.output_tokens));
            }
            Got::Answer(answer) => {
                // The vendor named no tokens: a text has at most half as many as bytes, and its framing many bytes more.
                let most = self.reserved();
                self.settle(price.cost(most_input, answer.bytes / 2).min(most));
            }
        }
    }
}

fn outcome(endpoint: Endpoint, first: &First, first_body: &[u8], got: &Got, took: Duration) -> Outcome {
    let Got::Answer(answer) = got else {
        return Outcome { differences: vec![Aspect::Status], failed: true, ..Outcome::default() };
    };
    let mut outcome = Outcome {
        failed: !answer.whole,
        times: Some((first.time, took)),
        output_tokens: first.usage.zip(answer.usage).map(|(one, other)| (one.output_tokens, other.output_tokens)),
        ..Outcome::default()
    };
    let shapes = shape(endpoint, first.stream, first_body).zip(shape(endpoint, answer.stream, &answer.body));
    if first.stream != answer.stream || !answer.whole || shapes.is_none() {
        outcome.differences.push(Aspect::End);
    }
    if let Some((one, other)) = shapes {
        outcome.differences.extend(differences(&one, &other));
        outcome.similarity = Some(similarity(&one.text, &other.text));
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: &str = r#"{"choices":[{"message":{"content":"one two"},"finish_reason":"stop"}]}"#;

    fn first() -> First {
        First {
            status: StatusCode::OK,
            stream: false,
            whole: true,
            time: Duration::from_millis(80),
            usage: Some(Usage { input_tokens: 1, output_tokens: 2 }),
        }
    }

    fn answer(body: &str) -> Answer {
        Answer { stream: false, whole: true, body: body.into(), bytes: body.len() as u64, usage: first().usage }
    }

    fn compared(got: &Got) -> Outcome {
        outcome(Endpoint::ChatCompletions, &first(), CHAT.as_bytes(), got, Duration::from_millis(90))
    }

    #[test]
    fn the_same_structure_agrees_whatever_the_words() {
        let other = CHAT.replace("one", "two three");
        let outcome = compared(&Got::Answer(answer(&other)));
        assert_eq!((outcome.differences.len(), outcome.failed, outcome.similarity), (0, false, Some(33)));
        assert_eq!(outcome.output_tokens, Some((2, 2)));
    }

    #[test]
    fn what_is_not_whole_or_of_another_form_differs_in_its_end() {
        for other in [
            Answer { stream: true, ..answer("data: [DONE]\n\n") },
            Answer { whole: false, ..answer(CHAT) },
            answer("<html>"),
        ] {
            assert_eq!(compared(&Got::Answer(other)).differences.first(), Some(&Aspect::End));
        }
    }

    #[test]
    fn a_copy_without_an_answer_has_failed_and_does_not_agree() {
        for got in [Got::NotSent, Got::Lost, Got::Refused(StatusCode::BAD_GATEWAY)] {
            let outcome = compared(&got);
            assert_eq!((outcome.failed, outcome.differences), (true, vec![Aspect::Status]));
        }
    }
}
