//! The image half of the fake runtime.

use super::FakeRuntime;
use crate::*;
use async_trait::async_trait;

#[async_trait]
impl ImageService for FakeRuntime {
    async fn list_images(&self, filter: Option<&ImageFilter>) -> Result<Vec<Image>> {
        let s = self.lock();
        Ok(match filter.and_then(|f| f.image.as_ref()) {
            Some(spec) => s.find_image(&spec.image).cloned().into_iter().collect(),
            None => s.images.values().cloned().collect(),
        })
    }

    async fn image_status(&self, image: &ImageSpec) -> Result<Option<Image>> {
        Ok(self.lock().find_image(&image.image).cloned())
    }

    async fn pull_image(
        &self,
        image: &ImageSpec,
        _auth: Option<&AuthConfig>,
        _sandbox_config: Option<&PodSandboxConfig>,
    ) -> Result<String> {
        let mut s = self.lock();
        s.calls.push(format!("pull_image {}", image.image));
        if let Some(e) = s.pull_errors.get(&image.image) {
            return Err(e.clone());
        }
        Ok(s.add_image(&image.image))
    }

    async fn remove_image(&self, image: &ImageSpec) -> Result<()> {
        let mut s = self.lock();
        s.calls.push(format!("remove_image {}", image.image));
        if let Some(id) = s.find_image(&image.image).map(|i| i.id.clone()) {
            s.images.remove(&id);
        }
        Ok(())
    }

    async fn image_fs_info(&self) -> Result<ImageFsInfoResponse> {
        let s = self.lock();
        let fs = FilesystemUsage {
            timestamp: s.now,
            mountpoint: "/".into(),
            used_bytes: s.images.values().map(|i| i.size).sum(),
            inodes_used: s.images.len() as u64,
        };
        Ok(ImageFsInfoResponse { image_filesystems: vec![fs.clone()], container_filesystems: vec![fs] })
    }
}
