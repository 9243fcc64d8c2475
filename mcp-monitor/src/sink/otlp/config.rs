//! Keys of an OTLP sink.

use opentelemetry_proto::tonic::{common::v1::KeyValue, resource::v1::Resource};

use super::{encode::text, send::Otlp};
use crate::{
    config::ConfigError,
    sink::{
        delivery::Sender,
        http::Endpoint,
        settings::{Fields, Key, Target},
    },
};

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "protocol",
        form: "`grpc` or `http`",
        default: "grpc",
        about: "OTLP over gRPC (usual port 4317), or protobuf over HTTP (4318; `/v1/logs` and `/v1/metrics` are added to the URL).",
    },
    Key {
        name: "service_name",
        form: "text",
        default: "mcp-monitor",
        about: "`service.name` of the resource.",
    },
    Key {
        name: "resource",
        form: "mapping",
        default: "",
        about: "Further attributes of the resource, such as `k8s.cluster.name` or `deployment.environment.name`.",
    },
    Key {
        name: "interval",
        form: "time",
        default: "30s",
        about: "With `records: [metrics]`: how often they go out.",
    },
];

/// Over what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Protocol {
    Grpc,
    Http,
}

/// Settings.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) endpoint: Endpoint,
    pub(super) protocol: Protocol,
    pub(super) resource: Resource,
}

/// Attributes that the environment of a pod tells.
const TOLD: &[(&str, &str)] = &[
    ("k8s.node.name", "NODE_NAME"),
    ("k8s.pod.name", "POD_NAME"),
    ("k8s.namespace.name", "POD_NAMESPACE"),
    ("k8s.pod.uid", "POD_UID"),
];

pub(super) fn read(fields: &Fields<'_>) -> Result<Box<dyn Target>, ConfigError> {
    let protocols = [("grpc", Protocol::Grpc), ("http", Protocol::Http)];
    let service = fields.text("service_name")?;
    let mut attributes = own(service.as_deref().unwrap_or("mcp-monitor"));
    for (name, value) in fields.pairs("resource")? {
        if name == "service.name" {
            return Err(fields.wrong("resource", "service.name in resource", "service_name beside it"));
        }
        attributes.retain(|known| known.key != name);
        attributes.push(text(&name, value.expose()));
    }
    Ok(Box::new(Config {
        endpoint: Endpoint::read(fields)?,
        protocol: fields.choice("protocol", &protocols, Protocol::Grpc)?,
        resource: Resource {
            attributes,
            ..Resource::default()
        },
    }))
}

/// The monitor itself, by the semantic conventions.
fn own(service: &str) -> Vec<KeyValue> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let told = |variable: &str| std::env::var(variable).ok().filter(|value| !value.is_empty());
    // Stable over restarts: one monitor a node.
    let node = told("NODE_NAME").unwrap_or_else(|| host.trim().to_owned());
    let mut attributes = vec![
        text("service.name", service),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("service.instance.id", &node),
        text("host.name", &node),
        text("host.arch", std::env::consts::ARCH),
    ];
    for (name, variable) in TOLD {
        attributes.extend(told(variable).map(|value| text(name, &value)));
    }
    attributes
}

impl Target for Config {
    fn sender(self: Box<Self>) -> Result<Box<dyn Sender>, String> {
        Ok(Box::new(Otlp::new(*self)?))
    }
}
