//! Lists: selectors, pages, states.

use api::resource::CONFIG_MAPS;
use client::ListParams;
use futures::StreamExt;
use serde_json::json;

use super::setup::*;

fn names(v: &serde_json::Value) -> Vec<String> {
    v["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|i| i["metadata"]["name"].as_str().expect("name").to_owned())
        .collect()
}

#[tokio::test]
async fn selectors() {
    let s = Server::start().await;
    s.config_map("a", json!({"app": "x", "tier": "1"})).await;
    s.config_map("b", json!({"app": "y"})).await;
    s.config_map("c", json!({})).await;
    for (q, want) in [
        ("labelSelector=app%3Dx", vec!["a"]),
        ("labelSelector=app", vec!["a", "b"]),
        ("labelSelector=%21app", vec!["c"]),
        ("labelSelector=app%20in%20(x%2Cy)%2Ctier%21%3D1", vec!["b"]),
        ("fieldSelector=metadata.name%3Db", vec!["b"]),
        ("fieldSelector=metadata.name%21%3Db", vec!["a", "c"]),
        ("", vec!["a", "b", "c"]),
    ] {
        let (code, v) = s.get(&format!("{CMS}?{q}")).await;
        assert_eq!((code, names(&v)), (200, want.iter().map(|s| (*s).to_owned()).collect()), "{q}");
    }
    assert_eq!(s.get(&format!("{CMS}?labelSelector=a%3D%3D%3Db")).await.0, 400);
    let (code, e) = s.get(&format!("{CMS}?fieldSelector=data.x%3Db")).await;
    assert_eq!(code, 400);
    assert!(e["message"].as_str().is_some_and(|m| m.contains("is not a known field selector")));
}

#[tokio::test]
async fn pages_are_of_one_state_and_expire() {
    let s = Server::start().await;
    for i in 0..7 {
        s.config_map(&format!("c{i}"), json!({"even": (i % 2 == 0).to_string()})).await;
    }
    let (_, first) = s.get(&format!("{CMS}?limit=3")).await;
    assert_eq!((names(&first).len(), first["remaining"].as_u64()), (3, Some(4)));
    let token = first["continue"].as_str().expect("token").to_owned();
    // What happens in between is not seen.
    s.delete(&format!("{CMS}/c5"), &json!(null)).await;
    s.config_map("c55", json!({})).await;
    let (_, second) = s.get(&format!("{CMS}?limit=3&continue={token}")).await;
    assert_eq!(names(&second), ["c3", "c4", "c5"]);
    assert_eq!(second["revision"], first["revision"]);
    let rest = second["continue"].as_str().expect("token").to_owned();
    let (_, third) = s.get(&format!("{CMS}?limit=3&continue={rest}")).await;
    assert_eq!((names(&third), third["continue"].as_str()), (vec!["c6".to_owned()], Some("")));
    // Selectors thin pages out without shortening them.
    let (_, v) = s.get(&format!("{CMS}?limit=2&labelSelector=even%3Dtrue")).await;
    assert_eq!((names(&v), v["remaining"].as_u64()), (vec!["c0".to_owned(), "c2".into()], None));

    let now = store::Store::revision(s.store.as_ref());
    store::Store::compact(s.store.as_ref(), now).await.expect("compact");
    let (code, e) = s.get(&format!("{CMS}?limit=3&continue={token}")).await;
    assert_eq!((code, e["reason"].as_str()), (410, Some("Expired")));
    let fresh = e["metadata"]["continue"].as_str().expect("inconsistent token").to_owned();
    let (code, v) = s.get(&format!("{CMS}?limit=10&continue={fresh}")).await;
    assert_eq!((code, names(&v)), (200, vec!["c3".to_owned(), "c4".into(), "c55".into(), "c6".into()]));
}

#[tokio::test]
async fn states() {
    let s = Server::start().await;
    let a = s.config_map("a", json!({})).await;
    s.config_map("b", json!({})).await;
    let at = a.revision();
    let (_, v) = s.get(&format!("{CMS}?resourceVersion={at}&resourceVersionMatch=Exact")).await;
    assert_eq!((names(&v), v["revision"].as_u64()), (vec!["a".to_owned()], Some(at)));
    let (_, v) = s.get(&format!("{CMS}?resourceVersion={at}")).await;
    assert_eq!(names(&v).len(), 2);
    let (code, e) = s.get(&format!("{CMS}?resourceVersion=999999")).await;
    assert_eq!((code, e["details"]["causes"][0]["reason"].as_str()), (504, Some("ResourceVersionTooLarge")));
    assert_eq!(s.get(&format!("{CMS}?resourceVersionMatch=Exact")).await.0, 422);
    let now = store::Store::revision(s.store.as_ref());
    store::Store::compact(s.store.as_ref(), now).await.expect("compact");
    let (code, e) = s.get(&format!("{CMS}?resourceVersion={at}&resourceVersionMatch=Exact")).await;
    assert_eq!(
        (code, e["message"].as_str()),
        (410, Some("The resourceVersion for the provided list is too old."))
    );
}

#[tokio::test]
async fn objects_are_shared_in_process() {
    let s = Server::start().await;
    s.config_map("a", json!({})).await;
    let p = ListParams::default();
    let one = s.client.list(&CONFIG_MAPS, "default", &p).await.expect("list");
    let two = s.client.list(&CONFIG_MAPS, "default", &p).await.expect("list");
    assert_eq!(one.items[0].stored_bytes().as_ptr(), two.items[0].stored_bytes().as_ptr());
}

#[tokio::test]
async fn a_large_list_is_whole_and_of_one_state() {
    const MANY: usize = 5000;
    let s = Server::start().await;
    let names: Vec<String> = (0..MANY).map(|i| format!("c{i:05}")).collect();
    let made = futures::stream::iter(&names).map(|n| s.config_map(n, json!({"n": n})));
    let last = made.buffer_unordered(64).map(|o| o.revision()).fold(0, |a, b| async move { a.max(b) }).await;
    // Read in pieces, between which another writer comes in: it is not seen.
    let list =
        async { s.client.list(&CONFIG_MAPS, "default", &ListParams::default()).await.expect("a list") };
    let write = async {
        for n in &names[MANY - 3..] {
            s.merge(&format!("{CMS}/{n}"), &json!({"metadata": {"labels": {"late": "yes"}}})).await;
        }
    };
    let (list, ()) = tokio::join!(list, write);
    let found: Vec<&str> = list.items.iter().map(|o| o.name()).filter(|n| n.starts_with('c')).collect();
    assert_eq!(found, names);
    assert!(list.revision >= last);
    let newest = list.items.iter().map(client::Object::revision).max();
    assert!(newest <= Some(list.revision), "{newest:?} in a list of {}", list.revision);
    let params = ListParams { label_selector: "n=c04999".into(), ..ListParams::default() };
    let one = s.client.list(&CONFIG_MAPS, "default", &params).await.expect("a list");
    assert_eq!(one.items.len(), 1);
}
