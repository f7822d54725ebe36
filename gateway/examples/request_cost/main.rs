//! What counting for the analysis costs a request: instructions under callgrind, of a gateway that serves a file, on one runtime, between a
//! client and a provider on loopback.
//!
//! `make cost`, or `cargo run -p bifrost-gateway --example request_cost -- PATH/TO/bifrost-gateway`
//!
//! Each case runs twice, with few requests and with many, and the difference is what requests cost: the start of the process is in
//! both. Counting cannot be switched off, so there is no run without it to compare with: the share of the analysis is the inclusive cost
//! of the functions that only it needs; beside it that of all counting, metrics included, into which the rest of it is inlined. What is looked at in tool calls is
//! on top: the difference to the same answers to a request that names no tools.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on ends")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Requests of the two runs of a case.
const FEW: u64 = 200;
const MANY: u64 = 1_200;
/// What the analysis may cost of a request.
const MOST_PERCENT: f64 = 3.0;
/// How long one process may take.
const PATIENCE: Duration = Duration::from_secs(90);
/// What only the analysis needs. What a function has inlined is in its own cost, so of each group the first that is there counts.
const ANALYSIS: [&[&str]; 4] = [
    &["bifrost_gateway::pipeline::measure::sample"],
    &["bifrost_gateway::telemetry::models::ModelLabels::has"],
    &["bifrost_analysis::window::Window::slot"],
    &["bifrost_analysis::window::Window::record_at", "bifrost_analysis::sums::GroupSums::record"],
];
/// All that counts a request once its sample is made.
const COUNTING: &str = "bifrost_gateway::telemetry::recorder::Recorder::record";

/// One kind of request.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    percent: u8,
    stream: bool,
    answer: Answer,
}

/// What the provider answers, to what request.
#[derive(Clone, Copy, PartialEq)]
enum Answer {
    Text,
    ToolCall,
    /// The request has a member of the same size and another name.
    UnnamedToolCall,
}

const CASES: [Case; 6] = [
    Case { name: "baseline, plain", percent: 0, stream: false, answer: Answer::Text },
    Case { name: "baseline, stream of 20 events", percent: 0, stream: true, answer: Answer::Text },
    Case { name: "bifrost, plain", percent: 100, stream: false, answer: Answer::Text },
    Case { name: "bifrost, stream of 20 events", percent: 100, stream: true, answer: Answer::Text },
    Case { name: "bifrost, plain, a tool call", percent: 100, stream: false, answer: Answer::ToolCall },
    Case { name: "bifrost, stream of 20 events of a tool call", percent: 100, stream: true, answer: Answer::ToolCall },
];

/// Instructions.
#[derive(Clone, Copy)]
struct Cost {
    all: f64,
    analysis: f64,
    counting: f64,
}

fn main() {
    let gateway = std::env::args().nth(1).expect("give the path of a bifrost-gateway built with --release");
    let folder = tempfile::tempdir().unwrap();
    let provider = provider();
    let mut over = 0;
    println!("{:<44} {:>9} {:>9} {:>9} {:>9}", "instructions a request", "all", "analysis", "counting", "tools");
    for case in CASES {
        let cost = |case: &Case| {
            let [few, many] = [FEW, MANY].map(|requests| run(&gateway, folder.path(), provider, case, requests));
            let each = |of: fn(&Cost) -> f64| (of(&many) - of(&few)) / (MANY - FEW) as f64;
            Cost {
                all: each(|cost| cost.all),
                analysis: each(|cost| cost.analysis),
                counting: each(|cost| cost.counting),
            }
        };
        let found = cost(&case);
        let tools = match case.answer {
            Answer::ToolCall => found.all - cost(&Case { answer: Answer::UnnamedToolCall, ..case }).all,
            _ => 0.0,
        };
        let Cost { all, analysis, counting } = found;
        println!("{:<44} {all:>9.0} {analysis:>9.0} {counting:>9.0} {tools:>9.0}", case.name);
        let share = |part: f64| part / all * 100.0;
        println!("{:<44} {:>9} {:>8.2}% {:>8.2}% {:>8.2}%", "", "", share(analysis), share(counting), share(tools));
        over += u32::from(share(analysis) > MOST_PERCENT || analysis <= 0.0);
    }
    println!("the analysis may cost {MOST_PERCENT} % of a request, tool calls apart");
    if over > 0 {
        println!("{over} of the cases are over it, or the functions of the analysis were not found");
        std::process::exit(1);
    }
}

/// What one process that served so many requests took.
fn run(gateway: &str, folder: &Path, provider: SocketAddr, case: &Case, requests: u64) -> Cost {
    let (config, out) = (folder.join("config.json"), folder.join("callgrind.out"));
    let (port, percent) = (provider.port(), case.percent);
    let text = format!(
        r#"{{"migration":{{"strategy":"Canary","canaryPercent":{percent}}},"providers":{{"openai":{{"keys":[{{"name":"main","value":"sk-pool"}}],"network_config":{{"base_url":"http://127.0.0.1:{port}"}}}}}}}}"#
    );
    std::fs::write(&config, text).unwrap();
    let address = free_address();
    let mut process = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", &format!("--callgrind-out-file={}", out.display())])
        .arg(gateway)
        .args(["--config", &config.display().to_string(), "--host", "127.0.0.1", "--threads", "1"])
        .args(["--port", &address.port().to_string(), "--admin-port", &free_address().port().to_string()])
        .args(["--log-level", "error", "--drain-timeout", "1s"])
        .stdout(Stdio::null())
        .spawn()
        .expect("valgrind must be installed");
    let mut client = connect(address, &mut process);
    let request = request(case);
    for _ in 0..requests {
        client.write_all(request.as_bytes()).unwrap();
        let answer = answer(&mut client);
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("x-bf-arm-reason: canary"), "{answer}");
    }
    drop(client);
    Command::new("kill").arg(process.id().to_string()).status().unwrap();
    process.wait().unwrap();
    read(&out)
}

/// Total and inclusive costs, as callgrind_annotate tells them.
fn read(out: &Path) -> Cost {
    let output =
        Command::new("callgrind_annotate").args(["--inclusive=yes", "--threshold=100"]).arg(out).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<(f64, &str)> = text.lines().filter_map(cost).collect();
    let of = |name: &str| -> f64 {
        // A method of a type stands as `<path::Type>::method` or `path::Type::method`.
        let is_it = |line: &str| line.replace(['<', '>'], "").contains(name);
        lines.iter().filter(|(_, line)| is_it(line)).map(|(cost, _)| cost).fold(0.0, |most, cost| most.max(*cost))
    };
    let total = lines.iter().find(|(_, line)| line.contains("PROGRAM TOTALS")).map_or(0.0, |(cost, _)| *cost);
    let first = |group: &[&str]| group.iter().map(|name| of(name)).find(|cost| *cost > 0.0).unwrap_or(0.0);
    Cost { all: total, analysis: ANALYSIS.iter().map(|group| first(group)).sum(), counting: of(COUNTING) }
}

/// `1,234,567 (12.34%)  file:function [object]`
fn cost(line: &str) -> Option<(f64, &str)> {
    let (number, rest) = line.trim_start().split_once(' ')?;
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b',');
    is_number.then(|| number.replace(',', "").parse().ok().map(|cost| (cost, rest))).flatten()
}

fn request(case: &Case) -> String {
    let (user, name) = match case.answer {
        Answer::Text => ("u-1", "other"),
        Answer::ToolCall => ("u-call", "tools"),
        Answer::UnnamedToolCall => ("u-call", "other"),
    };
    let tools = format!(r#","{name}":[{{"type":"function","function":{{"name":"f","parameters":{{}}}}}}]"#);
    let content = "x".repeat(900);
    let body = format!(
        r#"{{"model":"gpt-4o-mini","user":"{user}","stream":{},"messages":[{{"role":"user","content":"{content}"}}]{tools}}}"#,
        case.stream
    );
    format!(
        "POST /openai/v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer sk-app\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn connect(address: SocketAddr, process: &mut Child) -> TcpStream {
    let begun = Instant::now();
    loop {
        if let Ok(client) = TcpStream::connect(address) {
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            client.set_nodelay(true).unwrap();
            return client;
        }
        assert!(process.try_wait().unwrap().is_none() && begun.elapsed() < PATIENCE, "the gateway does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port that is free now.
fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// Reads one answer to its end, by length or in chunks.
fn answer(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = length(head);
            if length.map_or_else(|| body.ends_with("0\r\n\r\n"), |length| body.len() >= length) {
                return text;
            }
        }
        let mut chunk = [0; 16 * 1024];
        let read = stream.read(&mut chunk).unwrap();
        assert!(read > 0, "the answer broke off: {text}");
        text.push_str(&String::from_utf8_lossy(&chunk[..read]));
    }
}

fn length(head: &str) -> Option<usize> {
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-length:"))?;
    line.split_once(':')?.1.trim().parse().ok()
}

/// A provider that answers at once, plain or as a stream, with a tool call where the user is a certain one.
fn provider() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || serve(connection));
        }
    });
    address
}

fn serve(mut connection: TcpStream) {
    connection.set_nodelay(true).unwrap();
    let mut text = String::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        match text.split_once("\r\n\r\n").map(|(head, body)| (length(head).unwrap_or(0), body.len())) {
            Some((length, there)) if there >= length => {
                let reply = reply(text.contains(r#""stream":true"#), text.contains("u-call"));
                if connection.write_all(reply.as_bytes()).is_err() {
                    return;
                }
                text.clear();
            }
            _ => match connection.read(&mut chunk) {
                Ok(read) if read > 0 => text.push_str(&String::from_utf8_lossy(&chunk[..read])),
                _ => return,
            },
        }
    }
}

fn reply(stream: bool, tools: bool) -> String {
    const USAGE: &str = r#""usage":{"prompt_tokens":230,"completion_tokens":40,"total_tokens":270}"#;
    if !stream {
        let message = if tools {
            r#"{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"city\":\"Paris\",\"days\":[1,2,3]}"}}]}"#.to_owned()
        } else {
            format!(r#"{{"role":"assistant","content":"{}"}}"#, "word ".repeat(160))
        };
        let body =
            format!(r#"{{"id":"a","object":"chat.completion","choices":[{{"index":0,"message":{message}}}],{USAGE}}}"#);
        return format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
    }
    let mut reply =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
    let mut event = |data: &str| {
        let event = format!("data: {data}\n\n");
        reply.push_str(&format!("{:x}\r\n{event}\r\n", event.len()));
    };
    for place in 0..20 {
        let delta = match (tools, place) {
            (true, 0) => r#"{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{\"days\":[1"}}]}"#,
            (true, 19) => r#"{"tool_calls":[{"index":0,"function":{"arguments":"]}"}}]}"#,
            (true, _) => r#"{"tool_calls":[{"index":0,"function":{"arguments":",2"}}]}"#,
            (false, _) => r#"{"content":" word"}"#,
        };
        event(&format!(r#"{{"id":"a","object":"chat.completion.chunk","choices":[{{"index":0,"delta":{delta}}}]}}"#));
    }
    event(&format!(r#"{{"id":"a","choices":[],{USAGE}}}"#));
    event("[DONE]");
    reply.push_str("0\r\n\r\n");
    reply
}
