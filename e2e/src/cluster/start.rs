//! Starting a cluster: what runs beside what, and what waits for what.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, ServiceAccount},
};
use kube::{Api, Client};

use crate::{
    cluster::{
        Cluster, FORWARDER, Layout, Options, Record, control_plane, dns, ensure_root, node, pki,
        process::{self, Daemon, Process},
        teardown,
    },
    components::Components,
    files,
    forward::{self, Destination, Forward},
    images::{self, Image},
    progress::{self, Step},
    wait::{wait_for, wait_until},
};

/// How long the node and CoreDNS may take, each.
const LIMIT: Duration = Duration::from_secs(120);
/// How long a component may take to open its socket or port.
const SOCKET_LIMIT: Duration = Duration::from_secs(30);
/// How often the components are looked after while they start.
const WATCH: Duration = Duration::from_millis(200);
/// Lines of a component's log in the error that says it ended.
const LOG_LINES: usize = 15;

pub(super) async fn start(options: &Options) -> Result<Cluster> {
    ensure_root()?;
    let cluster = Cluster { layout: Layout::new(&options.name)?, components: Components::install().await? };
    process::check_tools()?;
    let record = Record { components: cluster.components.digest(), forwards: forwards(options)? };
    let _lock = files::lock(&cluster.layout.lock())?;
    if cluster.reuse(&record).await? {
        return Ok(cluster);
    }
    teardown::tear_down(&cluster.layout).await?;
    let (pause, coredns) = (images::build_pause().await?, images::build_coredns(&cluster.components)?);
    let step = Step::start(format!("Starting cluster {}", options.name));
    let booted = tokio::select! {
        booted = cluster.boot(&record, &pause, &coredns, &step) => booted,
        ended = cluster.first_to_end() => Err(ended),
    };
    booted.with_context(|| {
        format!("the cluster did not start; its logs are in {}", cluster.layout.path("logs").display())
    })?;
    step.done();
    Ok(cluster)
}

/// The forwarded ports: the API server's and those that were asked for.
fn forwards(options: &Options) -> Result<Vec<Forward>> {
    let mut forwards = vec![Forward { port: options.api_port, to: Destination::ApiServer }];
    forwards.extend(options.forwards.iter().cloned());
    forward::check(&forwards)?;
    Ok(forwards)
}

impl Cluster {
    /// Whether the cluster runs as it is wanted. Only the forwarder is changed on the way.
    async fn reuse(&self, wanted: &Record) -> Result<bool> {
        let Ok(record) = std::fs::read(self.layout.record()) else { return Ok(false) };
        let Ok(record) = serde_json::from_slice::<Record>(&record) else { return Ok(false) };
        if record.components != wanted.components {
            progress::line("The running cluster is of another version: it is replaced.");
            return Ok(false);
        }
        if record.forwards != wanted.forwards {
            self.start_forwarder(&wanted.forwards).await?;
            files::write(&self.layout.record(), serde_json::to_vec(wanted)?)?;
        }
        match self.check_health().await {
            Ok(()) => {
                progress::line(&format!("Cluster {} runs.", self.name()));
                Ok(true)
            }
            Err(error) => {
                progress::line(&format!("Cluster {} is broken ({error:#}): it is replaced.", self.name()));
                Ok(false)
            }
        }
    }

    async fn boot(&self, record: &Record, pause: &Image, coredns: &Image, step: &Step) -> Result<()> {
        step.detail("network and certificates");
        self.namespace().create().await?;
        pki::create(&self.layout)?;

        step.detail("API server and containerd");
        self.spawn(control_plane::ETCD, control_plane::etcd(&self.layout, &self.components)?)?;
        self.spawn(control_plane::API_SERVER, control_plane::api_server(&self.layout, &self.components)?)?;
        self.spawn(node::CONTAINERD, node::containerd(&self.layout, &pause.reference)?)?;
        self.start_forwarder(&record.forwards).await?;
        let containerd = async {
            self.wait_for_containerd().await?;
            self.load_image(pause).await?;
            self.load_image(coredns).await
        };
        tokio::try_join!(containerd, self.wait_for_api())?;

        step.detail("node and controllers");
        let controllers = control_plane::controller_manager(&self.layout, &self.components)?;
        self.spawn(control_plane::CONTROLLER_MANAGER, controllers)?;
        self.spawn(control_plane::SCHEDULER, control_plane::scheduler(&self.layout, &self.components)?)?;
        self.spawn(node::KUBELET, node::kubelet(&self.layout, &self.components)?)?;
        let access = self.access()?;
        let client = access.client().await?;
        let nodes: Api<Node> = Api::all(client.clone());
        let manifests = dns::objects(&coredns.reference).to_string();
        let registered = wait_for("the node", LIMIT, || async { Ok(nodes.get_opt(&self.layout.tag()).await?) });
        tokio::try_join!(access.apply(None, &manifests), registered)?;
        self.spawn(node::KUBE_PROXY, node::kube_proxy(&self.layout, &self.components)?)?;

        step.detail("CoreDNS");
        let name = self.layout.tag();
        tokio::try_join!(wait_for_node(nodes, &name), wait_for_workloads(client))?;
        files::write(&self.layout.record(), serde_json::to_vec(record)?)
    }

    /// Starts the forwarder, in place of one that runs, and writes the kubeconfig for the port that it got.
    async fn start_forwarder(&self, forwards: &[Forward]) -> Result<()> {
        if let Some(process) = self.process(FORWARDER) {
            process::end(process, Duration::from_secs(2)).await?;
        }
        let ready = self.layout.forwarder_record();
        let _ = std::fs::remove_file(&ready);
        let program = std::env::current_exe().context("this program's own file is gone")?;
        let mut args = vec!["forward".to_owned(), "--cluster".to_owned(), self.name().to_owned()];
        args.extend(forwards.iter().map(Forward::to_string));
        // It starts outside, opens its ports there and enters the namespace by itself.
        let daemon = Daemon::new(program, args);
        let process = daemon.spawn(&self.layout.log(FORWARDER), &self.layout.pid_file(FORWARDER))?;
        tokio::select! {
            ready = wait_until("the forwarder", SOCKET_LIMIT, || async { Ok(ready.is_file()) }) => ready?,
            ended = self.wait_for_end_of(FORWARDER, process) => return Err(ended),
        }
        let forwards = self.forwards()?;
        let api = forwards.iter().find(|forward| forward.to == Destination::ApiServer);
        let port = api.context("the API server is not forwarded")?.port;
        pki::write_user_kubeconfig(&self.layout, &format!("https://{}:{port}", Ipv4Addr::LOCALHOST))
    }

    async fn wait_for_containerd(&self) -> Result<()> {
        let socket = self.layout.containerd_socket();
        wait_until("containerd", SOCKET_LIMIT, || async {
            Ok(tokio::net::UnixStream::connect(&socket).await.map(|_| true)?)
        })
        .await
    }

    /// Waits until a component ends that should run: the error that says so.
    async fn first_to_end(&self) -> anyhow::Error {
        loop {
            for name in super::PROCESSES {
                let process = Process::read(&self.layout.pid_file(name));
                if let Some(process) = process.filter(|process| name != FORWARDER && !process.is_alive()) {
                    return self.wait_for_end_of(name, process).await;
                }
            }
            tokio::time::sleep(WATCH).await;
        }
    }

    /// Waits for the end of a component: the error that shows its last words.
    async fn wait_for_end_of(&self, name: &str, process: Process) -> anyhow::Error {
        while process.is_alive() {
            tokio::time::sleep(WATCH).await;
        }
        anyhow::anyhow!("{name} ended; its last lines:\n{}", files::last_lines(&self.layout.log(name), LOG_LINES))
    }
}

async fn wait_for_node(nodes: Api<Node>, name: &str) -> Result<()> {
    wait_until("the node to be ready", LIMIT, || async {
        let status = nodes.get(name).await?.status.unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        Ok(conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"))
    })
    .await
}

/// CoreDNS answers, and pods can be made: without the account `default` they are refused.
async fn wait_for_workloads(client: Client) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "kube-system");
    let accounts: Api<ServiceAccount> = Api::namespaced(client, "default");
    wait_until("CoreDNS", LIMIT, || async {
        let status = deployments.get("coredns").await?.status.unwrap_or_default();
        Ok(status.ready_replicas.unwrap_or_default() > 0)
    })
    .await?;
    wait_until("the default service account", LIMIT, || async { Ok(accounts.get_opt("default").await?.is_some()) })
        .await
}
