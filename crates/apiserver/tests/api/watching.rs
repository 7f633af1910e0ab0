//! Watches: order, selectors, bookmarks, compaction, ends.

use api::resource::{CONFIG_MAPS, PODS as POD};
use client::{WatchEvent, WatchParams};
use futures::StreamExt;
use serde_json::json;

use super::setup::*;

fn text(e: &WatchEvent) -> String {
    match e {
        WatchEvent::Added(o) => format!("ADDED {}", o.name()),
        WatchEvent::Modified(o) => format!("MODIFIED {}", o.name()),
        WatchEvent::Deleted(o) => format!("DELETED {}", o.name()),
        WatchEvent::Bookmark { initial_events_end, .. } => format!("BOOKMARK {initial_events_end}"),
        WatchEvent::Error(s) => format!("ERROR {}", s.code),
    }
}

async fn raw(s: &Server, uri: &str) -> client::WatchStream {
    match s.send("GET", uri, "", "").await.into_body() {
        client::LocalBody::Watch(w) => w,
        client::LocalBody::Bytes(b) => panic!("no watch: {}", String::from_utf8_lossy(&b)),
        _ => panic!("no watch"),
    }
}

async fn take(w: &mut client::WatchStream, n: usize) -> Vec<String> {
    // One that does not come must not hold the tests.
    let all = w.take(n).map(|e| text(&e)).collect();
    tokio::time::timeout(std::time::Duration::from_secs(60), all).await.expect("so many events")
}

#[tokio::test]
async fn changes_come_once_and_in_order() {
    let s = Server::start().await;
    let a = s.config_map("a", json!({})).await;
    let p = WatchParams { resource_version: a.revision(), ..WatchParams::default() };
    let mut w = s.client.watch(&CONFIG_MAPS, "default", &p).await.expect("watch");
    s.config_map("b", json!({})).await;
    s.merge(&format!("{CMS}/a"), &json!({"data": {"k": "2"}})).await;
    s.delete(&format!("{CMS}/b"), &json!(null)).await;
    assert_eq!(take(&mut w, 3).await, ["ADDED b", "MODIFIED a", "DELETED b"]);
}

#[tokio::test]
async fn leaving_a_selector_is_a_deletion_with_the_last_selected_state() {
    let s = Server::start().await;
    let mut w = raw(&s, &format!("{CMS}?watch=1&labelSelector=app%3Dx&resourceVersion=0")).await;
    s.config_map("a", json!({"app": "x"})).await;
    s.config_map("other", json!({"app": "y"})).await;
    s.merge(&format!("{CMS}/a"), &json!({"metadata": {"labels": {"app": "y"}}})).await;
    s.merge(&format!("{CMS}/other"), &json!({"metadata": {"labels": {"app": "x"}}})).await;
    let first = w.next().await.expect("event");
    assert_eq!(text(&first), "ADDED a");
    let Some(WatchEvent::Deleted(o)) = w.next().await else { panic!("no deletion") };
    assert_eq!((o.name(), o.meta().labels.get("app").unwrap_or_default()), ("a", "x"));
    let now = s.client.get(&CONFIG_MAPS, "default", "a").await.expect("get");
    assert_eq!(o.revision(), now.revision());
    assert_eq!(take(&mut w, 1).await, ["ADDED other"]);
}

#[tokio::test]
async fn field_selectors_follow_status() {
    let s = Server::start().await;
    let mut w = raw(&s, &format!("{PODS}?watch=1&fieldSelector=spec.nodeName%3Dn1&resourceVersion=0")).await;
    s.post(PODS, &pod("p")).await;
    let b = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    s.client.create_sub(&POD, "default", Some("p"), "binding", &b).await.expect("bound");
    assert_eq!(take(&mut w, 1).await, ["ADDED p"]);
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let s = Server::start().await;
    s.config_map("a", json!({})).await;
    s.config_map("b", json!({})).await;
    let q = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut w = raw(&s, &format!("{CMS}?{q}")).await;
    assert_eq!(take(&mut w, 3).await, ["ADDED a", "ADDED b", "BOOKMARK true"]);
    s.config_map("c", json!({})).await;
    assert_eq!(take(&mut w, 1).await, ["ADDED c"]);
    let (code, _) = s.get(&format!("{CMS}?watch=1&sendInitialEvents=true")).await;
    assert_eq!(code, 422);
}

#[tokio::test]
async fn history_that_is_gone_is_said_in_the_stream() {
    let s = Server::start().await;
    let a = s.config_map("a", json!({})).await;
    s.config_map("b", json!({})).await;
    s.config_map("c", json!({})).await;
    let now = store::Store::revision(s.store.as_ref());
    store::Store::compact(s.store.as_ref(), now).await.expect("compact");
    let mut w = raw(&s, &format!("{CMS}?watch=1&resourceVersion={}", a.revision())).await;
    assert_eq!(take(&mut w, 5).await, ["ERROR 410"]);
}

#[tokio::test]
async fn a_watch_ends_at_its_timeout_and_with_the_server() {
    let s = Server::start().await;
    let mut w = raw(&s, &format!("{CMS}?watch=1&timeoutSeconds=1&resourceVersion=0")).await;
    assert!(w.next().await.is_none());
    let mut w = raw(&s, &format!("{CMS}?watch=1&resourceVersion=0")).await;
    s.stop.cancel();
    assert!(w.next().await.is_none());
}
