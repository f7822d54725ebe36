//! A one-node Kubernetes cluster on this machine, from its real components: etcd, API server, controller manager,
//! scheduler, containerd, kubelet, kube-proxy, CoreDNS. It lives in a network namespace of its own; several may run side
//! by side under different names.

mod control_plane;
mod dns;
mod layout;
pub mod netns;
pub mod network;
mod node;
mod pki;
mod process;
mod start;
mod teardown;

use std::{
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

pub use self::layout::Layout;
use self::{
    netns::Namespace,
    process::{Daemon, Process},
};
use crate::{
    components::Components,
    files,
    forward::{self, Destination, Forward},
    images::Image,
    kubernetes::Access,
    progress, run,
    wait::wait_until,
};

/// The forwarder's name beside the components.
const FORWARDER: &str = "forwarder";

/// Every process of a cluster, in the order in which they start.
const PROCESSES: [&str; 8] = [
    control_plane::ETCD,
    control_plane::API_SERVER,
    node::CONTAINERD,
    FORWARDER,
    control_plane::CONTROLLER_MANAGER,
    control_plane::SCHEDULER,
    node::KUBELET,
    node::KUBE_PROXY,
];

/// How long the API server may take to answer, from its start.
const API_LIMIT: Duration = Duration::from_secs(90);

/// What a cluster is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name: `local` for users, `test` for tests.
    pub name: String,
    /// The port on 127.0.0.1 where its API server is reached; 0: any free one.
    pub api_port: u16,
    /// Other ports on 127.0.0.1.
    pub forwards: Vec<Forward>,
}

/// What a finished start leaves behind for later commands.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    /// Digest of the components.
    components: String,
    /// The ports that were asked for, the API server's first.
    forwards: Vec<Forward>,
}

/// A running cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    layout: Layout,
    components: Components,
}

/// One process of a cluster, as `status` shows it.
#[derive(Debug, Clone)]
pub struct ProcessStatus {
    /// The component.
    pub name: &'static str,
    /// Its process, when it runs.
    pub pid: Option<i32>,
    /// Its log.
    pub log: PathBuf,
}

/// A process that is frozen while this lives.
#[derive(Debug)]
pub struct Frozen(Process);

impl Drop for Frozen {
    fn drop(&mut self) {
        self.0.signal(Signal::SIGCONT);
    }
}

impl Cluster {
    /// Starts a cluster, or returns the one of this name that runs and is healthy. What is left of an earlier one is
    /// removed first.
    pub async fn start(options: &Options) -> Result<Self> {
        start::start(options).await
    }

    /// The running cluster of this name, if there is one.
    pub fn attach(name: &str) -> Result<Option<Self>> {
        let cluster = Self { layout: Layout::new(name)?, components: Components::located()? };
        Ok(cluster.layout.record().is_file().then_some(cluster))
    }

    /// Removes every trace of the cluster of this name. Says whether there was any.
    pub async fn stop(name: &str) -> Result<bool> {
        let layout = Layout::new(name)?;
        if !teardown::has_traces(&layout) {
            return Ok(false);
        }
        ensure_root()?;
        let lock = files::lock(&layout.lock())?;
        let step = progress::Step::start(format!("Removing cluster {name}"));
        teardown::tear_down(&layout).await?;
        teardown::remove_state_root(lock);
        step.done();
        Ok(true)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.layout.name()
    }

    /// Where everything of it lies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// How programs outside reach it: through the forwarder.
    pub fn access(&self) -> Result<Access> {
        Ok(Access {
            kubeconfig: self.layout.kubeconfig(),
            context: None,
            kubectl: self.components.program("kubectl")?,
            helm: self.components.program("helm")?,
        })
    }

    /// A command that runs inside the cluster's network and asks its DNS: what a client in a pod of the namespace
    /// `default` reaches and how it names it, without a pod.
    pub fn command_inside(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = run::command(run::find_program("ip").unwrap_or_else(|| "ip".into()));
        command.args(["netns", "exec", self.namespace().name()]).arg(program);
        run::without_proxies(&mut command);
        command
    }

    /// Runs `work` on a thread inside the cluster's network: the sockets it opens are in there. Names are not looked up there.
    pub async fn run_inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let namespace = self.namespace();
        tokio::task::spawn_blocking(move || namespace.inside(work)).await.context("the work did not end")?
    }

    /// Makes an image known to the cluster; nothing happens when it is.
    pub async fn load_image(&self, image: &Image) -> Result<()> {
        let name = format!("name=={}", image.reference);
        if !run::stdout_of(self.ctr().args(["images", "list", "--quiet", &name])).await?.trim().is_empty() {
            return Ok(());
        }
        let loaded = run::stdout_of(self.ctr().args(["images", "import"]).arg(&image.archive)).await;
        loaded.map(drop).with_context(|| format!("cannot load {}", image.reference))
    }

    /// Kills a container's first process with SIGKILL, as a crash would; by the id that a pod's status shows
    /// (`containerd://<id>`). Works while the API server is away.
    pub async fn kill_container(&self, id: &str) -> Result<()> {
        self.signal_container(id, "SIGKILL").await
    }

    /// A container's first process, by the id that a pod's status shows.
    pub async fn container_process(&self, id: &str) -> Result<i32> {
        let id = id.strip_prefix("containerd://").unwrap_or(id);
        let tasks = run::stdout_of(self.ctr().args(["tasks", "list"])).await?;
        let words = tasks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let pid =
            words.into_iter().find(|words| words.first() == Some(&id)).and_then(|words| words.get(1)?.parse().ok());
        pid.with_context(|| format!("the container {id} does not run"))
    }

    /// Sends a signal to a container's first process: `SIGSTOP` freezes it where it is, `SIGCONT` lets it go on.
    pub async fn signal_container(&self, id: &str, signal: &str) -> Result<()> {
        let id = id.strip_prefix("containerd://").unwrap_or(id);
        run::stdout_of(self.ctr().args(["tasks", "kill", "--signal", signal, id])).await.map(drop)
    }

    /// Opens a port of 127.0.0.1 for a destination, until the returned value is dropped.
    pub fn forward(&self, to: Destination) -> Result<forward::Serving> {
        forward::Serving::start(to, self.namespace(), self.layout.admin_kubeconfig())
    }

    /// Where the cluster's forwarder listens.
    pub fn forwards(&self) -> Result<Vec<Forward>> {
        let record = std::fs::read(self.layout.forwarder_record()).context("the forwarder does not run")?;
        serde_json::from_slice(&record).context("the forwarder's record cannot be read")
    }

    /// The address on 127.0.0.1 of a destination that the forwarder serves.
    pub fn forwarded(&self, to: &Destination) -> Result<Option<SocketAddr>> {
        let forward = self.forwards()?.into_iter().find(|forward| forward.to == *to);
        Ok(forward.map(|forward| (std::net::Ipv4Addr::LOCALHOST, forward.port).into()))
    }

    /// Ends the API server alone, at once; everything else runs on. Asked to end, it would serve open watches for up to a
    /// minute.
    pub async fn stop_api_server(&self) -> Result<()> {
        let process = Process::read(&self.layout.pid_file(control_plane::API_SERVER));
        process::end(process.context("the API server does not run")?, Duration::ZERO).await
    }

    /// Starts the API server again, and waits until it answers here and to pods, and reaches the kubelet.
    ///
    /// The rest of the control plane, kubelet and kube-proxy begin anew; containers run on. Left alone, their watches come back only
    /// after up to a minute, and the controller manager would declare the node dead, which it has not heard of for so long.
    pub async fn start_api_server(&self) -> Result<()> {
        if self.process(control_plane::API_SERVER).is_none() {
            self.spawn(control_plane::API_SERVER, control_plane::api_server(&self.layout, &self.components)?)?;
        }
        self.wait_for_api().await?;
        let (layout, components) = (&self.layout, &self.components);
        self.restart(control_plane::CONTROLLER_MANAGER, control_plane::controller_manager(layout, components)?).await?;
        self.restart(control_plane::SCHEDULER, control_plane::scheduler(layout, components)?).await?;
        self.restart(node::KUBELET, node::kubelet(layout, components)?).await?;
        self.restart(node::KUBE_PROXY, node::kube_proxy(layout, components)?).await?;
        let service = (network::KUBERNETES_SERVICE, network::KUBERNETES_PORT);
        wait_until("the API server's Service", API_LIMIT, || self.is_reachable(service.into())).await?;
        let kubelet = (network::NODE_ADDRESS, network::KUBELET_PORT);
        wait_until("the kubelet", API_LIMIT, || self.is_reachable(kubelet.into())).await
    }

    async fn restart(&self, name: &str, daemon: Daemon) -> Result<()> {
        if let Some(process) = self.process(name) {
            process::end(process, Duration::ZERO).await?;
        }
        self.spawn(name, daemon).map(drop)
    }

    /// Whether somebody listens at an address inside.
    async fn is_reachable(&self, address: SocketAddr) -> Result<bool> {
        let connected = self.run_inside(move || TcpStream::connect_timeout(&address, Duration::from_secs(1))).await?;
        connected.with_context(|| format!("cannot connect to {address}"))?;
        Ok(true)
    }

    /// Freezes kube-proxy until the returned value is dropped: Services stay as they are, whatever becomes of their pods.
    pub fn freeze_proxy(&self) -> Result<Frozen> {
        let process = self.process(node::KUBE_PROXY).context("kube-proxy does not run")?;
        process.signal(Signal::SIGSTOP);
        Ok(Frozen(process))
    }

    /// Every process of it.
    pub fn processes(&self) -> Vec<ProcessStatus> {
        let status = |name: &'static str| ProcessStatus {
            name,
            pid: self.process(name).map(|process| process.pid()),
            log: self.layout.log(name),
        };
        PROCESSES.into_iter().map(status).collect()
    }

    /// Whether all its processes run and its API server answers.
    pub async fn check_health(&self) -> Result<()> {
        if let Some(down) = self.processes().iter().find(|process| process.pid.is_none()) {
            bail!("{} does not run", down.name);
        }
        self.api_is_ready().await
    }

    fn namespace(&self) -> Namespace {
        Namespace::new(self.layout.tag())
    }

    /// A component's process, when it runs.
    fn process(&self, name: &str) -> Option<Process> {
        Process::read(&self.layout.pid_file(name)).filter(Process::is_alive)
    }

    /// Starts a component inside the cluster's network.
    fn spawn(&self, name: &str, daemon: Daemon) -> Result<Process> {
        let daemon = daemon.inside(self.namespace().path());
        daemon.spawn(&self.layout.log(name), &self.layout.pid_file(name))
    }

    async fn wait_for_api(&self) -> Result<()> {
        wait_until("the API server", API_LIMIT, || async { self.api_is_ready().await.map(|()| true) }).await
    }

    async fn api_is_ready(&self) -> Result<()> {
        let client = self.access()?.client().await?;
        let request = http::Request::get("/readyz").body(Vec::new())?;
        let answer = tokio::time::timeout(Duration::from_secs(5), client.request_text(request)).await;
        answer.context("the API server does not answer")?.context("the API server is not ready").map(drop)
    }

    fn ctr(&self) -> Command {
        let mut command = run::command(run::find_program("ctr").unwrap_or_else(|| "ctr".into()));
        command.arg("--address").arg(self.layout.containerd_socket()).args(["--namespace", "k8s.io"]);
        command
    }
}

/// Namespaces and mounts need root.
fn ensure_root() -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    bail!("the local cluster needs root (try `sudo -E`), or a cluster of your own: --context NAME")
}
