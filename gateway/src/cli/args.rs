//! The arguments, first as they are written, then as the gateway needs them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bifrost_config::AddressRule;
use bifrost_config::report::{ADMIN_PORT, FORWARD_PORT, PREVIEW_PORT};
use bifrost_config::units::parse_duration;
use clap::{Args, Parser, Subcommand, ValueEnum};
use http::HeaderValue;

use super::{CliError, threads};
use crate::source::kubernetes::ClusterOptions;

/// The file that is served when no argument names one, as in the image.
pub(super) const DEFAULT_CONFIG: &str = "/app/config/config.json";
/// How long a pod that goes away serves on, so that load balancers notice. Nobody balances load to a process at a terminal.
const CLUSTER_READINESS_DELAY: Duration = Duration::from_secs(5);

/// The LLM gateway: applications change their base URL and nothing else.
#[derive(Debug, Parser)]
#[command(name = "bifrost-gateway", version, args_conflicts_with_subcommands = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check a configuration file and print every problem; exit code 1 if there is one
    Validate {
        /// The file
        #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
        config: PathBuf,
    },
    /// Print the version
    Version,
}

/// How to serve, as written. Spellings with one dash (-config, -port) are known too.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// Configuration file; read again when it changes [default: /app/config/config.json where it exists]
    #[arg(long, value_name = "FILE", conflicts_with = "cluster")]
    config: Option<PathBuf>,
    /// Port for applications
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Port for the preview of a blue-green migration [default: 8081 in a cluster, else none]
    #[arg(long, value_name = "PORT")]
    preview_port: Option<u16>,
    /// Port on which a pod of a rollout's candidate takes what other pods forward to it [default: 8082 in a cluster, else none]
    #[arg(long, value_name = "PORT")]
    forward_port: Option<u16>,
    /// Address to listen on, for all ports [default: all addresses]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_host)]
    host: Option<IpAddr>,
    /// Port for health, metrics and state
    #[arg(long, value_name = "PORT", default_value_t = ADMIN_PORT)]
    admin_port: u16,
    /// Runtimes that serve requests [default: the CPU quota rounded up, 1 to 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Least severity that is logged
    #[arg(long, value_enum, default_value_t = LogLevel::Info)]
    pub(super) log_level: LogLevel,
    /// Form of the log
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(super) log_format: LogFormat,
    /// How long open requests may take to end once the gateway stops
    #[arg(long, value_name = "DURATION", default_value = "300s", value_parser = parse_time)]
    drain_timeout: Duration,
    /// How long the gateway serves on after it was told to stop [default: 5s in a cluster, else 0s]
    #[arg(long, value_name = "DURATION", value_parser = parse_time)]
    readiness_delay: Option<Duration>,
    /// Serve /metrics on the applications' port too; always so without a cluster
    #[arg(long)]
    metrics_on_app_port: bool,
    /// Let a BifrostGateway's providers have loopback and link-local addresses; without a cluster they always may
    #[arg(long, env = "BIFROST_ALLOW_LOCAL_ADDRESSES")]
    allow_local_addresses: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "In a cluster")]
struct ClusterArgs {
    /// Serve a BifrostGateway: follow its ConfigMap and Secret
    #[arg(long)]
    cluster: bool,
    /// Namespace of the BifrostGateway
    #[arg(long, requires = "cluster", conflicts_with = "config", required_if_eq("cluster", "true"))]
    namespace: Option<String>,
    /// Name of the BifrostGateway
    #[arg(long, requires = "cluster", conflicts_with = "config", required_if_eq("cluster", "true"))]
    name: Option<String>,
    /// Directory for what must outlive the container: an emptyDir
    #[arg(long, value_name = "DIR", requires = "cluster", conflicts_with = "config")]
    state_dir: Option<PathBuf>,
    /// Revision of the rollout's candidate that this pod is of
    #[arg(long, value_name = "REVISION", env = "BIFROST_CANDIDATE_REVISION", value_parser = parse_revision)]
    candidate_revision: Option<HeaderValue>,
    /// Where the ConfigMap is mounted
    #[arg(long, value_name = "DIR", requires = "cluster", conflicts_with = "config")]
    mounted_config: Option<PathBuf>,
    /// Where the Secret is mounted
    #[arg(long, value_name = "DIR", requires = "cluster", conflicts_with = "config")]
    mounted_keys: Option<PathBuf>,
}

/// Severities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Forms of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

/// Where the configuration comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceOptions {
    /// A file.
    File(PathBuf),
    /// A cluster.
    Cluster(ClusterOptions),
}

/// How to serve, with every default filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where the configuration comes from.
    pub source: SourceOptions,
    /// Where applications connect.
    pub listen: SocketAddr,
    /// Where the preview is, if it has a port.
    pub preview: Option<SocketAddr>,
    /// Where other pods forward a candidate's requests to, if there is a port for that.
    pub forward: Option<SocketAddr>,
    /// The revision of the candidate that this pod is of; none for the stable one.
    pub candidate: Option<HeaderValue>,
    /// Where health, metrics and state are.
    pub admin: SocketAddr,
    /// Runtimes that serve requests.
    pub threads: usize,
    /// How long open requests may take once the gateway stops.
    pub drain_timeout: Duration,
    /// How long it serves on before that.
    pub readiness_delay: Duration,
    /// Whether `/metrics` is served to applications too.
    pub metrics_on_app_port: bool,
    /// Which addresses providers may have.
    pub addresses: AddressRule,
}

impl ServeArgs {
    /// Fills in the defaults. `exists` says whether a file is there.
    pub(super) fn options(self, exists: impl Fn(&Path) -> bool) -> Result<Options, CliError> {
        let host = self.host.unwrap_or_else(all_addresses);
        let standalone = !self.cluster.cluster;
        let in_cluster = |port: Option<u16>, default| {
            port.or((!standalone).then_some(default)).map(|port| SocketAddr::new(host, port))
        };
        let candidate = self.cluster.candidate_revision.clone();
        let source = match (self.cluster.options(), self.config) {
            (Some(cluster), _) => SourceOptions::Cluster(cluster),
            (None, Some(file)) => SourceOptions::File(file),
            (None, None) if exists(Path::new(DEFAULT_CONFIG)) => SourceOptions::File(DEFAULT_CONFIG.into()),
            (None, None) => return Err(CliError::NoConfiguration),
        };
        Ok(Options {
            source,
            listen: SocketAddr::new(host, self.port),
            preview: in_cluster(self.preview_port, PREVIEW_PORT),
            forward: in_cluster(self.forward_port, FORWARD_PORT),
            candidate: candidate.filter(|_| !standalone),
            admin: SocketAddr::new(host, self.admin_port),
            threads: self.threads.map_or_else(threads::default_count, usize::from),
            drain_timeout: self.drain_timeout,
            readiness_delay: self.readiness_delay.unwrap_or(if standalone {
                Duration::ZERO
            } else {
                CLUSTER_READINESS_DELAY
            }),
            metrics_on_app_port: self.metrics_on_app_port || standalone,
            // A standalone file may name any address; a resource may not reach into the pod and its node unless the operator lets it.
            addresses: match standalone || self.allow_local_addresses {
                true => AddressRule::Any,
                false => AddressRule::NoLocal,
            },
        })
    }
}

impl ClusterArgs {
    fn options(self) -> Option<ClusterOptions> {
        let Self {
            cluster: true,
            namespace: Some(namespace),
            name: Some(name),
            state_dir,
            mounted_config,
            mounted_keys,
            candidate_revision: _,
        } = self
        else {
            return None;
        };
        Some(ClusterOptions { namespace, name, state_dir, mounted_config, mounted_keys })
    }
}

/// Both address families where the machine has both.
fn all_addresses() -> IpAddr {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)) {
        Ok(_) => Ipv6Addr::UNSPECIFIED.into(),
        Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    }
}

fn parse_host(text: &str) -> Result<IpAddr, String> {
    if text == "localhost" {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    text.trim_matches(['[', ']']).parse().map_err(|_| "is no IP address, such as 0.0.0.0 or ::1".to_owned())
}

fn parse_revision(text: &str) -> Result<HeaderValue, String> {
    let is_name = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    HeaderValue::from_str(text).ok().filter(|_| is_name).ok_or_else(|| "is no revision, such as 3f9c2d1e0a".to_owned())
}

fn parse_time(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "is no duration, such as 30s or 1m30s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn options(line: &str) -> Result<Options, String> {
        let args = std::iter::once("bifrost-gateway").chain(line.split_whitespace()).map(Into::into);
        let cli = parse(args).map_err(|error| error.to_string())?;
        cli.serve.options(|_| false).map_err(|error| error.to_string())
    }

    #[test]
    fn the_guides_command_works_with_one_dash_and_with_two() {
        let two = options("--config config.json --port 8090").unwrap();
        assert_eq!(options("-config config.json -port 8090").unwrap(), two);
        assert_eq!(options("-config=config.json -port=8090").unwrap(), two);
        assert_eq!((two.source, two.listen.port()), (SourceOptions::File("config.json".into()), 8090));
        assert_eq!((two.admin.port(), two.readiness_delay, two.metrics_on_app_port), (9090, Duration::ZERO, true));
    }

    #[test]
    fn a_cluster_has_its_own_defaults() {
        let line = "--cluster --namespace llm --name ai --state-dir /s --mounted-config /c --mounted-keys /k --drain-timeout 2m";
        let options = options(line).unwrap();
        let cluster = ClusterOptions {
            namespace: "llm".into(),
            name: "ai".into(),
            state_dir: Some("/s".into()),
            mounted_config: Some("/c".into()),
            mounted_keys: Some("/k".into()),
        };
        assert_eq!(options.source, SourceOptions::Cluster(cluster));
        assert_eq!(
            (options.drain_timeout, options.readiness_delay),
            (Duration::from_secs(120), Duration::from_secs(5))
        );
        assert!(!options.metrics_on_app_port);
        assert_eq!(options.preview.map(|address| address.port()), Some(8081));
        assert_eq!(options.forward.map(|address| address.port()), Some(8082));
        assert_eq!((options.addresses, options.candidate), (AddressRule::NoLocal, None));
    }

    #[test]
    fn a_pod_of_a_candidate_is_told_its_revision() {
        let line = "--cluster --namespace llm --name ai --candidate-revision 3f9c2d1e0a";
        assert_eq!(options(line).unwrap().candidate.unwrap(), "3f9c2d1e0a");
        assert!(options(&line.replace("3f9", "3.9")).unwrap_err().contains("is no revision"));
        let file = options("--config x --candidate-revision 3f9c2d1e0a").unwrap();
        assert_eq!((file.candidate, file.forward), (None, None));
    }

    #[test]
    fn a_file_has_a_preview_only_where_one_is_asked_for() {
        assert_eq!(options("--config x").unwrap().preview, None);
        assert_eq!(options("--config x --preview-port 0").unwrap().preview.map(|address| address.port()), Some(0));
        let elsewhere = options("--cluster --namespace llm --name ai --preview-port 9").unwrap();
        assert_eq!(elsewhere.preview.map(|address| address.port()), Some(9));
    }

    #[test]
    fn local_addresses_are_for_files_and_for_clusters_that_allow_them() {
        assert_eq!(options("--config x").unwrap().addresses, AddressRule::Any);
        let allowed = options("--cluster --namespace llm --name ai --allow-local-addresses").unwrap();
        assert_eq!(allowed.addresses, AddressRule::Any);
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        for line in [
            "--cluster",
            "--cluster --namespace a",
            "--name ai --config x",
            "--cluster --namespace a --name b --config x",
        ] {
            assert!(options(line).is_err(), "{line}");
        }
        assert!(options("--config x --drain-timeout 5").unwrap_err().contains("is no duration"));
        assert!(options("--config x --threads 0").is_err());
        assert!(options("--config x --host nowhere").unwrap_err().contains("is no IP address"));
    }

    #[test]
    fn without_a_file_the_message_says_what_to_do() {
        assert!(options("").unwrap_err().contains("--config FILE"));
        let cli = parse(["bifrost-gateway".into()]).unwrap();
        let found = cli.serve.options(|path| path == Path::new(DEFAULT_CONFIG)).unwrap();
        assert_eq!(found.source, SourceOptions::File(DEFAULT_CONFIG.into()));
    }

    #[test]
    fn a_host_may_be_a_name_for_this_machine() {
        assert_eq!(options("--config x -host localhost").unwrap().listen.ip(), Ipv4Addr::LOCALHOST);
        assert_eq!(options("--config x --host [::1]").unwrap().admin.ip(), Ipv6Addr::LOCALHOST);
    }
}
