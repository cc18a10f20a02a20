//! Vision transformers, timm's `vision_transformer.py` and `vision_transformer_hybrid.py`. Dosovitskiy et al. 2020,
//! arXiv:2010.11929.

use super::{
    Backbone, Entry, Options, Pretrained, Sizes,
    parts::{Classifier, FeatureMap, Segment, segments},
    resnetv2::ResNetV2,
};
use crate::{
    error::{Error, Result},
    tensor::{
        Builder, Init, Pass, Tensor, Weight,
        layers::{DropPath, LayerNorm, Linear},
        ops::{self, Activation},
    },
};

macro_rules! entries {
    ($($name:ident: $shape:expr, $about:literal, [$($pretrained:expr),+];)+) => {$(
        pub const $name: Entry = Entry {
            name: $shape.name,
            about: $about,
            pretrained: &[$($pretrained),+],
            classifier: "head",
            sizes: Sizes::Patches(&$shape),
            build: |b, options| Ok(Box::new(Vit::new(b, options, &$shape)?)),
        };
    )+

        /// Every vision transformer.
        pub const SHAPES: &[&Shape] = &[$(&$shape),+];
    };
}

entries! {
    VIT_TINY_PATCH16_224: Shape::patches("vit_tiny_patch16_224", 192, 3),
        "ViT-Ti/16, 5.7 M parameters, for images of any multiple of 16 pixels. Steiner et al. 2021, arXiv:2106.10270.",
        [augreg("augreg_in21k_ft_in1k", 1000), augreg("augreg_in21k", 21843)];
    VIT_SMALL_PATCH16_224: Shape::patches("vit_small_patch16_224", 384, 6),
        "ViT-S/16, 22.1 M parameters, for images of any multiple of 16 pixels. Steiner et al. 2021, arXiv:2106.10270.",
        [
            augreg("augreg_in21k_ft_in1k", 1000),
            augreg("augreg_in1k", 1000),
            augreg("augreg_in21k", 21843),
            Pretrained { classes: 0, ..Pretrained::imagenet("dino", 224, 224, 0.9) }
        ];
    VIT_BASE_PATCH16_224: Shape::patches("vit_base_patch16_224", 768, 12),
        "ViT-B/16, 86.6 M parameters, for images of any multiple of 16 pixels. Dosovitskiy et al. 2020, arXiv:2010.11929.",
        [
            augreg("augreg2_in21k_ft_in1k", 1000),
            augreg("augreg_in1k", 1000),
            augreg("augreg_in21k", 21843),
            augreg("augreg_in21k_ft_in1k", 1000),
            Pretrained {
                mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
                std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
                classes: 115_217,
                ..Pretrained::imagenet("bamboo", 224, 224, 1.0).license("")
            },
            Pretrained { classes: 0, ..Pretrained::imagenet("dino", 224, 224, 0.9) },
            Pretrained { classes: 0, ..Pretrained::imagenet("mae", 224, 224, 0.9).license("cc-by-nc-4.0") },
            augreg("orig_in21k", 0),
            augreg("orig_in21k_ft_in1k", 1000),
            augreg("sam_in1k", 1000)
        ];
    DEIT_TINY_PATCH16_224: Shape::patches("deit_tiny_patch16_224", 192, 3),
        "DeiT-Ti/16, 5.7 M parameters, for images of any multiple of 16 pixels. Touvron et al. 2020, arXiv:2012.12877.",
        [Pretrained::imagenet("fb_in1k", 224, 224, 0.9)];
    DEIT_SMALL_PATCH16_224: Shape::patches("deit_small_patch16_224", 384, 6),
        "DeiT-S/16, 22.1 M parameters, for images of any multiple of 16 pixels. Touvron et al. 2020, arXiv:2012.12877.",
        [Pretrained::imagenet("fb_in1k", 224, 224, 0.9)];
    VIT_TINY_R_S16_P8_224:
        Shape { patch: 8, stages: Some(&[]), ..Shape::patches("vit_tiny_r_s16_p8_224", 192, 3) },
        "R+ViT-Ti: a ResNet's stem and 8 x 8 patches of its map, 6.3 M parameters. Steiner et al. 2021, arXiv:2106.10270.",
        [augreg("augreg_in21k_ft_in1k", 1000), augreg("augreg_in21k", 21843)];
    VIT_SMALL_R26_S32_224:
        Shape { patch: 1, stages: Some(&[2, 2, 2, 2]), ..Shape::patches("vit_small_r26_s32_224", 384, 6) },
        "R26+ViT-S/32: a ResNet of 26 layers in front of a ViT, 36.4 M parameters. Steiner et al. 2021, arXiv:2106.10270.",
        [augreg("augreg_in21k_ft_in1k", 1000), augreg("augreg_in21k", 21843)];
}

/// Google's weights: -1..1, of 224 pixels, evaluated on 0.9 of a side.
const fn augreg(tag: &'static str, classes: usize) -> Pretrained {
    Pretrained { classes, ..Pretrained::inception(tag, 224, 224, 0.9) }
}

/// What tells one vision transformer from another.
#[derive(Clone, Copy)]
pub struct Shape {
    pub name: &'static str,
    /// Elements of a token.
    width: usize,
    heads: usize,
    /// Side of a patch: pixels, or places of the feature map.
    patch: usize,
    /// Blocks of each stage of the `ResNetV2` in front, if there is one.
    stages: Option<&'static [usize]>,
}

/// Blocks of every vision transformer here.
const DEPTH: usize = 12;

impl Shape {
    const fn patches(name: &'static str, width: usize, heads: usize) -> Self {
        Self { name, width, heads, patch: 16, stages: None }
    }

    /// Whether its patches are the image's.
    pub fn is_plain(&self) -> bool {
        self.stages.is_none()
    }

    /// The side of the grid of tokens for an image of this side.
    ///
    /// A side that the patches do not divide is the user's mistake; the message names the nearest that they do.
    pub fn grid(&self, image: usize) -> Result<usize> {
        let map = |image: usize| self.stages.map_or(image, |stages| ResNetV2::side(image, stages));
        let fits = |image: &usize| map(*image) > 0 && map(*image).is_multiple_of(self.patch);
        if fits(&image) {
            return Ok(map(image) / self.patch);
        }
        let near = [(1..image).rev().find(fits), (image + 1..).find(fits)];
        let near: Vec<String> = near.into_iter().flatten().map(|side| side.to_string()).collect();
        Err(Error::user(format!(
            "{} cuts {} into {} x {} patches, which do not divide {image} pixels; the nearest sizes that fit: {}",
            self.name,
            if self.stages.is_some() { "its feature map" } else { "images" },
            self.patch,
            self.patch,
            near.join(", ")
        )))
    }
}

/// A vision transformer with whatever makes its tokens in front.
pub struct Vit {
    class: Weight,
    positions: Weight,
    embed: Embed,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Classifier,
}

impl Vit {
    fn new(b: &Builder, options: &Options, shape: &Shape) -> Result<Self> {
        let grid = shape.grid(options.image_size)?;
        let map = |b: &Builder| -> Result<Option<Box<dyn FeatureMap>>> {
            let Some(stages) = shape.stages else { return Ok(None) };
            Ok(Some(Box::new(ResNetV2::new(b, options.in_channels, stages)?)))
        };
        Self::over(b, options, shape, grid, shape.patch, map)
    }

    /// Over `grid` x `grid` patches of the feature map that `map` builds, or of the image where it builds none.
    pub fn over(
        b: &Builder,
        options: &Options,
        shape: &Shape,
        grid: usize,
        patch: usize,
        map: impl FnOnce(&Builder) -> Result<Option<Box<dyn FeatureMap>>>,
    ) -> Result<Self> {
        let width = shape.width;
        let class = b.param("cls_token", (1, 1, width), Init::Normal { std: 1e-6 })?;
        let positions = b.param("pos_embed", (1, 1 + grid * grid, width), Init::TruncNormal { std: 0.02 })?;
        let embed = Embed::new(&b.pp("patch_embed"), options.in_channels, width, patch, map)?;
        let block = |index: usize| {
            let drop_path = options.drop_path * index as f64 / (DEPTH - 1) as f64;
            Block::new(&b.pp("blocks").pp(index), width, shape.heads, drop_path)
        };
        let blocks = (0..DEPTH).map(block).collect::<Result<_>>()?;
        let norm = LayerNorm::new(&b.pp("norm"), width, EPS)?;
        let head = Classifier::new(&b.pp("head"), width, options, [Init::TruncNormal { std: 0.02 }, Init::ZEROS])?;
        Ok(Self { class, positions, embed, blocks, norm, head })
    }
}

impl Backbone for Vit {
    fn segments(&self) -> Vec<Segment<'_>> {
        let map = self.embed.map.iter().flat_map(|map| map.segments());
        let tokens: Segment = Box::new(|x, pass| {
            ops::tokens(&self.embed.forward(x, pass)?, &self.class.get(pass), &self.positions.get(pass))
        });
        let blocks = segments(&self.blocks, Block::forward);
        // The norm is each token's own: those that no one reads need none.
        let norm: Segment = Box::new(|x, pass| self.norm.forward(&ops::first_token(x)?, pass));
        map.chain([tokens]).chain(blocks).chain([norm]).collect()
    }

    fn head(&self, features: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.head.forward(features, pass)
    }
}

/// timm's eps of the layer norms.
const EPS: f64 = 1e-6;

/// timm's `PatchEmbed` or `HybridEmbed`: each patch of the image, or of a feature map, through one linear layer.
struct Embed {
    map: Option<Box<dyn FeatureMap>>,
    weight: Weight,
    bias: Weight,
    patch: usize,
}

impl Embed {
    fn new(
        b: &Builder,
        inputs: usize,
        width: usize,
        patch: usize,
        map: impl FnOnce(&Builder) -> Result<Option<Box<dyn FeatureMap>>>,
    ) -> Result<Self> {
        let map = map(&b.pp("backbone"))?;
        let channels = map.as_ref().map_or(inputs, |map| map.channels());
        let (b, init) = (b.pp("proj"), Init::torch_default(channels * patch * patch));
        let weight = b.param("weight", (width, channels, patch, patch), init)?;
        Ok(Self { map, weight, bias: b.param("bias", width, init)?, patch })
    }

    /// The image, or its feature map where there is one, `(N, H, W, channels)`, to `(N, patches, width)`, row after row.
    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        // A convolution whose stride is its kernel is one matrix product.
        let patches = ops::patches(x, self.patch)?;
        let weight = ops::patch_weight(&self.weight.get(pass))?;
        ops::linear(&patches, &weight, &self.bias.get(pass), Activation::Identity)
    }
}

/// timm's `Block`: `x + attention(norm(x))`, then `x + mlp(norm(x))`, each branch dropped on its own.
struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: usize,
    drop_path: [DropPath; 2],
}

impl Block {
    fn new(b: &Builder, width: usize, heads: usize, drop_path: f64) -> Result<Self> {
        let linear = |name: &str, inputs: usize, outputs: usize, activation: Activation| {
            let (weight, bias) = (Init::TruncNormal { std: 0.02 }, Init::ZEROS);
            Linear::with(&b.pp(name), inputs, outputs, activation, weight, bias)
        };
        Ok(Self {
            norm1: LayerNorm::new(&b.pp("norm1"), width, EPS)?,
            qkv: linear("attn.qkv", width, 3 * width, Activation::Identity)?,
            proj: linear("attn.proj", width, width, Activation::Identity)?,
            norm2: LayerNorm::new(&b.pp("norm2"), width, EPS)?,
            fc1: linear("mlp.fc1", width, 4 * width, Activation::Gelu)?,
            fc2: linear("mlp.fc2", 4 * width, width, Activation::Identity)?,
            heads,
            drop_path: ["drop_path1", "drop_path2"].map(|name| DropPath::new(&b.pp(name), drop_path)),
        })
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let qkv = self.qkv.forward(&self.norm1.forward(x, pass)?, pass)?;
        let y = self.proj.forward(&ops::attention(&qkv, self.heads)?, pass)?;
        let x = ops::add(x, &self.drop_path[0].forward(&y, pass)?)?;
        let y = self.fc2.forward(&self.fc1.forward(&self.norm2.forward(&x, pass)?, pass)?, pass)?;
        ops::add(&x, &self.drop_path[1].forward(&y, pass)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backbone::tests::timm_drop_paths, tensor::Device};

    #[test]
    fn stochastic_depth_grows_as_in_timm() {
        let options = Options { drop_path: 0.2, image_size: 32, ..Options::new(2) };
        let net = Vit::new(&Builder::blank(&Device::Cpu), &options, SHAPES[0]).unwrap();
        let rates: Vec<f64> = net.blocks.iter().map(|block| block.drop_path[1].rate).collect();
        assert_eq!(rates.len(), 12);
        let close = |(ours, theirs): (&f64, f64)| (ours - theirs).abs() < 1e-7;
        assert!(rates.iter().zip(timm_drop_paths("vit_tiny_patch16_224")).all(close), "{rates:?}");
    }

    #[test]
    fn sizes_that_patches_do_not_divide_name_the_nearest() {
        let shape = |name: &str| SHAPES.iter().find(|shape| shape.name == name).unwrap();
        assert_eq!(shape("vit_tiny_patch16_224").grid(224).unwrap(), 14);
        assert_eq!(shape("vit_tiny_r_s16_p8_224").grid(224).unwrap(), 7);
        assert_eq!(shape("vit_small_r26_s32_224").grid(225).unwrap(), 8);
        let error = |name: &str, image: usize| shape(name).grid(image).unwrap_err().to_string();
        assert!(
            error("vit_tiny_patch16_224", 100)
                .ends_with("do not divide 100 pixels; the nearest sizes that fit: 96, 112")
        );
        assert!(error("vit_tiny_patch16_224", 8).ends_with("fit: 16"));
        assert!(error("vit_tiny_r_s16_p8_224", 100).ends_with("fit: 96, 125"));
    }
}
