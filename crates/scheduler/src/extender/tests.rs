//! An extender that is a real server on a real port, and what is made of its answers.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

fn extender(more: Value) -> Result<Extender, String> {
    let mut v = json!({"urlPrefix": "http://127.0.0.1:1/x"});
    for (k, x) in more.as_object().expect("object") {
        v[k] = x.clone();
    }
    Extender::new(serde_json::from_value(v).map_err(|e| e.to_string())?)
}

/// Answers each request with the next of the answers, and gives back what it was asked: path and body.
async fn serve(answers: Vec<Value>) -> (String, tokio::task::JoinHandle<Vec<(String, Value)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let url = format!("http://{}/scheduler", listener.local_addr().expect("address"));
    let task = tokio::spawn(async move {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.expect("connection");
            let mut got = Vec::new();
            let (head, body) = loop {
                let mut part = [0u8; 4096];
                let n = stream.read(&mut part).await.expect("request");
                got.extend_from_slice(&part[..n]);
                let text = String::from_utf8_lossy(&got).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head
                    .lines()
                    .find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
                if body.len() >= length.unwrap_or(0usize) {
                    break (head.to_owned(), body.to_owned());
                }
            };
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            asked.push((path, serde_json::from_str(&body).expect("JSON")));
            let text = answer.to_string();
            let out = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
            stream.write_all(out.as_bytes()).await.expect("answer");
        }
        asked
    });
    (url, task)
}

fn nodes(names: &[&str]) -> Nodes<'static> {
    Nodes {
        names: names.iter().map(|n| (*n).to_owned()).collect(),
        object: &|n: &str| Some(json!({"metadata": {"name": n}})),
    }
}

#[tokio::test]
async fn it_filters_prefers_preempts_and_binds() {
    let (url, served) = serve(vec![
        json!({"NodeNames": ["a", "c"], "FailedNodes": {"b": "no licence"}, "Error": ""}),
        json!([{"Host": "a", "Score": 3}, {"host": "c", "score": 99}]),
        json!({"NodeNameToMetaVictims": {"a": {"Pods": [{"UID": "v2"}]}}}),
        json!({"Error": "not today"}),
    ])
    .await;
    let e =
        extender(json!({"urlPrefix": url, "filterVerb": "filter", "prioritizeVerb": "prefer", "weight": 2,
        "preemptVerb": "preempt", "bindVerb": "bind", "nodeCacheCapable": true}))
        .expect("extender");
    let pod = json!({"metadata": {"name": "p"}});
    let left = e.filter(&pod, &nodes(&["a", "b", "c"])).await.expect("filtered");
    assert_eq!(left.names, ["a", "c"]);
    assert_eq!(left.refused, [("b".to_owned(), "no licence".to_owned())]);
    let scores = e.prioritize(&pod, &nodes(&["a", "c"])).await;
    assert_eq!((scores.get("a"), scores.get("c")), (Some(&60), Some(&200)));
    let victim = |uid: &str| Arc::new(PodInfo { uid: uid.into(), ..PodInfo::default() });
    let go = e.preempt(&pod, "a", &[victim("v1"), victim("v2")]).await.expect("said").expect("agreed");
    assert_eq!(go.iter().map(|v| v.uid.as_str()).collect::<Vec<_>>(), ["v2"]);
    assert_eq!(e.bind(&PodInfo::default(), "a").await, Err("not today".to_owned()));
    let asked = served.await.expect("served");
    let paths: Vec<&str> = asked.iter().map(|(p, _)| p.as_str()).collect();
    assert_eq!(paths, ["/scheduler/filter", "/scheduler/prefer", "/scheduler/preempt", "/scheduler/bind"]);
    assert_eq!(asked[0].1["NodeNames"], json!(["a", "b", "c"]));
    assert_eq!(asked[0].1["Nodes"], Value::Null);
}

#[tokio::test]
async fn one_that_is_away_fails_the_pod_unless_it_may_be_ignored() {
    let dead = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let url = format!("http://{}", dead.local_addr().expect("address"));
    drop(dead);
    let with = |ignorable: bool| {
        extender(json!({"urlPrefix": url, "filterVerb": "filter", "ignorable": ignorable})).expect("extender")
    };
    let asked = nodes(&["a"]);
    assert!(with(false).filter(&Value::Null, &asked).await.is_err());
    assert_eq!(with(true).filter(&Value::Null, &asked).await.map(|f| f.names), Ok(vec!["a".to_owned()]));
}

#[test]
fn whole_nodes_are_read_back_and_strangers_refused() {
    let asked = nodes(&["a", "b"]);
    let item = |n: &str| json!({"metadata": {"name": n}});
    let f = filtered(&json!({"nodes": {"items": [item("b")]}}), &asked, false).expect("filtered");
    assert_eq!(f.names, ["b"]);
    assert!(filtered(&json!({"NodeNames": ["z"]}), &asked, true).expect_err("stranger").contains("\"z\""));
    assert_eq!(filtered(&json!({"error": "broken"}), &asked, true), Err("broken".to_owned()));
}

#[test]
fn configurations_are_checked() {
    for (more, want) in [
        (json!({"prioritizeVerb": "p"}), ".weight: must be above zero"),
        (json!({"httpTimeout": "soon"}), ".httpTimeout"),
        (json!({"urlPrefix": "nowhere"}), ".urlPrefix"),
        (json!({"verb": "x"}), "unknown field `verb`"),
        (json!({"enableHTTPS": true}), "has to begin with https://"),
    ] {
        let e = extender(more).expect_err(want);
        assert!(e.contains(want), "{e}\n  lacks {want}");
    }
    assert_eq!(duration("1m30.5s"), Some(Duration::from_millis(90_500)));
    assert_eq!(duration("100ms"), Some(Duration::from_millis(100)));
}

#[test]
fn it_is_asked_about_its_own_resources_only() {
    let e = extender(json!({"managedResources": [{"name": "example.com/foo", "ignoredByScheduler": true}]}));
    let e = e.expect("extender");
    let mut pod = PodInfo::default();
    assert!(!e.interested(&pod));
    pod.shape_mut().requests.other.insert("example.com/foo".into(), 1);
    assert!(e.interested(&pod));
}
