//! Probes and lifecycle handlers.

use super::super::at::At;
use super::super::common::{exactly_one, non_negative, one_of, port, required};
use super::super::errors::ErrorList;
use super::super::names;
use super::Ctx;

/// One probe; `field` says which.
pub fn probe(p: &At, field: &str, ctx: &Ctx, e: &mut ErrorList) {
    if p.is_null() {
        return;
    }
    handler(p, &["exec", "httpGet", "tcpSocket", "grpc"], ctx, e);
    for f in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        non_negative(&p.get(f), e);
    }
    let grace = p.get("terminationGracePeriodSeconds");
    if grace.int().is_some_and(|g| g <= 0) {
        e.bad(&grace, names::POSITIVE);
    }
    if field == "readinessProbe" {
        if !grace.is_null() {
            e.bad(&grace, "must not be set for readinessProbes");
        }
    } else if p.i("successThreshold") != Some(1) {
        e.invalid(&p.at("successThreshold"), p.i("successThreshold").unwrap_or(0), "must be 1");
    }
}

/// postStart, preStop and the stop signal.
pub fn lifecycle(l: &At, ctx: &Ctx, e: &mut ErrorList) {
    for f in ["postStart", "preStop"] {
        let h = l.get(f);
        if !h.is_null() {
            handler(&h, &["exec", "httpGet", "tcpSocket", "sleep"], ctx, e);
        }
    }
}

fn handler(h: &At, kinds: &[&str], ctx: &Ctx, e: &mut ErrorList) {
    exactly_one(h, kinds.iter().copied(), "handler type", e, |kind, a, e| match kind {
        "exec" => {
            if a.get("command").is_empty() {
                e.required(&a.at("command"), "");
            }
        }
        "httpGet" => {
            required(&a.get("path"), e);
            port(&a.get("port"), e);
            if a.s("scheme").is_empty() {
                e.not_supported(&a.at("scheme"), "", &["HTTP", "HTTPS"]);
            } else {
                one_of(&a.get("scheme"), &["HTTP", "HTTPS"], e);
            }
            for header in a.get("httpHeaders").iter() {
                let name = header.s("name");
                e.each(&a.at("httpHeaders"), name, names::http_header_name(name));
            }
        }
        "sleep" => {
            let seconds = a.i("seconds").unwrap_or(0);
            if let Some(grace) = ctx.grace
                && !(0..=grace).contains(&seconds)
            {
                let why =
                    format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                e.invalid(a, seconds, &why);
            }
        }
        _ => port(&a.get("port"), e),
    });
}
