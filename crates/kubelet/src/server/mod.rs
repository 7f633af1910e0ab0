//! stub
use std::sync::Arc;
use crate::manager::Workers;
use crate::node_ctx::Node;
pub async fn serve<S>(_node: Arc<Node>, _workers: Arc<Workers>, _stream: S) {}
