//! APIServices: one that this server answers itself is available at once.

use serde_json::Value;

use crate::aggregation::register;
use crate::registry::Strategy;

pub struct ApiServices;

impl Strategy for ApiServices {
    fn prepare_create(&self, new: &mut Value) {
        if new["spec"]["service"].is_null() {
            register::set_local(new);
        }
    }
}
