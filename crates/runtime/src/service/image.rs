//! The image service.

use super::*;
use crate::images::registry::Registries;
use async_trait::async_trait;

#[async_trait]
impl ImageService for EmbeddedRuntime {
    async fn list_images(&self, filter: Option<&ImageFilter>) -> Result<Vec<Image>> {
        Ok(match filter.and_then(|f| f.image.as_ref()).filter(|i| !i.image.is_empty()) {
            Some(spec) => self.inner.images.find(&spec.image).iter().map(|r| r.to_cri()).collect(),
            None => self.inner.images.list().iter().map(|r| r.to_cri()).collect(),
        })
    }

    async fn image_status(&self, image: &ImageSpec) -> Result<Option<Image>> {
        let found = self.inner.images.find(&image.image);
        if found.is_none() && !crate::images::reference::is_digest(&image.image) {
            let parsed = crate::images::Reference::parse(&image.image);
            parsed.map_err(|e| CriError::pull(PullReason::InvalidImageName, e.to_string()))?;
        }
        Ok(found.map(|r| r.to_cri()))
    }

    async fn pull_image(
        &self,
        image: &ImageSpec,
        auth: Option<&AuthConfig>,
        _sandbox_config: Option<&PodSandboxConfig>,
    ) -> Result<String> {
        self.pull(&image.image, auth, None).await.map(|r| r.id)
    }

    async fn remove_image(&self, image: &ImageSpec) -> Result<()> {
        let (inner, name) = (self.inner.clone(), image.image.clone());
        blocking(move || {
            inner.images.remove(&name, &inner.layers_in_use()).map(drop).map_err(CriError::internal)
        })
        .await
    }

    async fn image_fs_info(&self) -> Result<ImageFsInfoResponse> {
        let root = self.inner.cfg.root.clone();
        blocking(move || {
            let usage = |dir: std::path::PathBuf| {
                let s = nix::sys::statvfs::statvfs(&dir).map_err(CriError::internal)?;
                Ok::<_, CriError>(FilesystemUsage {
                    timestamp: now_ns(),
                    mountpoint: dir.display().to_string(),
                    used_bytes: (s.blocks() - s.blocks_free()) * s.fragment_size(),
                    inodes_used: s.files().saturating_sub(s.files_free()),
                })
            };
            Ok(ImageFsInfoResponse {
                image_filesystems: vec![usage(root.join("layers"))?],
                container_filesystems: vec![usage(root.join("containers"))?],
            })
        })
        .await
    }
}

impl EmbeddedRuntime {
    /// Pulls; several calls for one image share one transfer's work by waiting for each other.
    pub async fn pull(
        &self,
        image: &str,
        auth: Option<&AuthConfig>,
        progress: Option<&crate::images::Progress>,
    ) -> Result<crate::images::ImageRecord> {
        let gate = {
            let mut pulls = self.inner.pulls.lock().await;
            pulls.retain(|_, w| w.strong_count() > 0);
            let gate = pulls.get(image).and_then(Weak::upgrade).unwrap_or_default();
            pulls.insert(image.to_string(), Arc::downgrade(&gate));
            gate
        };
        let _turn = gate.lock().await;
        let (images, cfg) = (self.inner.images.clone(), &self.inner.cfg);
        let from = Registries { insecure: &cfg.insecure_registries, mirrors: &cfg.registry_mirrors };
        let pulled = crate::images::registry::pull(images, image, auth, &from, progress).await;
        let rec = pulled.map_err(from_image)?;
        tracing::info!(image, id = %rec.id, bytes = rec.size, "pulled");
        Ok(rec)
    }
}
