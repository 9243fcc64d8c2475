//! Keys of a webhook sink.

use super::{encode::Template, send::Webhook};
use crate::{
    config::ConfigError,
    sink::{
        delivery::Sender,
        encoding::Encoding,
        http::{Endpoint, Http},
        settings::{Fields, Key, Secret, Target},
    },
};

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "template",
        form: "`generic`, `slack`, `pagerduty`",
        default: "generic",
        about: "What the receiver expects.",
    },
    Key {
        name: "routing_key",
        form: "`{file: PATH}` or `{env: NAME}`",
        default: "",
        about: "For `pagerduty`: the integration key. Required there.",
    },
    Key {
        name: "group_by",
        form: "`alert` or `incident`",
        default: "alert",
        about: "For `pagerduty`: whether each alert or each incident is one `dedup_key`.",
    },
];

/// Settings.
#[derive(Clone, Debug)]
pub(super) struct Config {
    endpoint: Endpoint,
    template: Template,
}

pub(super) fn read(fields: &Fields<'_>) -> Result<Box<dyn Target>, ConfigError> {
    #[derive(Clone, Copy, PartialEq)]
    enum Name {
        Generic,
        Slack,
        PagerDuty,
    }
    let names = [
        ("generic", Name::Generic),
        ("slack", Name::Slack),
        ("pagerduty", Name::PagerDuty),
    ];
    let name = fields.choice("template", &names, Name::Generic)?;
    let by_incident = fields.choice("group_by", &[("alert", false), ("incident", true)], false)?;
    let only = |key: &str, template: Name, word: &str| match fields.get(key) {
        Some(_) if name != template => Err(fields.wrong(
            key,
            format!("{key} with another template"),
            format!("template: {word}"),
        )),
        _ => Ok(()),
    };
    only("routing_key", Name::PagerDuty, "pagerduty")?;
    only("group_by", Name::PagerDuty, "pagerduty")?;
    only("encoding", Name::Generic, "generic")?;
    if name != Name::Generic && fields.number("batch", 1..=u64::MAX, 1)? > 1 {
        return Err(fields.wrong(
            "batch",
            "batch above 1",
            "1: this receiver takes one record at a time",
        ));
    }
    let template = match name {
        Name::Generic => Template::Generic(Encoding::read(fields, Encoding::Json)?),
        Name::Slack => Template::Slack,
        Name::PagerDuty => Template::PagerDuty {
            routing_key: Secret::new(fields.need_secret("routing_key")?.expose()),
            by_incident,
        },
    };
    if matches!(template, Template::Generic(Encoding::Text)) {
        return Err(fields.wrong(
            "encoding",
            "text for encoding",
            "json or ocsf: a webhook takes JSON",
        ));
    }
    Ok(Box::new(Config {
        endpoint: Endpoint::read(fields)?,
        template,
    }))
}

impl Target for Config {
    fn sender(self: Box<Self>) -> Result<Box<dyn Sender>, String> {
        let http = Http::new(self.endpoint.clone(), "")?;
        Ok(Box::new(Webhook::new(http, self.template)))
    }
}
