"""The options of other projects' configurations: how each is used, which values are supported, and their names.

Taken from the code of happyharrycn/actionformer_release, dingfengshi/TriDet, TuanTNG/TemporalMaxer, xlliu7/TadTR and
sming256/OpenTAD.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Use = Literal["weights", "config", "decoding", "training", "features", "unused"]
"""How an option is used.

weights: read from the weights, which the config must not contradict. config: read from the config. decoding: printed as
settings of decoding. training: affects training only. features: about the features, which are imported separately.
unused: changes no output.
"""
Family = Literal["actionformer", "tridet", "temporalmaxer", "tadtr", "opentad", "opentad-tadtr", "opentad-bmn"]
"""Configurations that have options in common."""


def _uses(**names: str) -> dict[str, Use]:
    return {name: use for use, words in names.items() for name in words.split()}  # type: ignore[misc]


_SHARED = _uses(
    weights="backbone_type fpn_type backbone_arch input_dim num_classes embd_dim embd_kernel_size embd_with_ln fpn_dim "
    "head_dim head_num_layers head_kernel_size head_with_ln",
    config="scale_factor max_seq_len",
    decoding="pre_nms_thresh pre_nms_topk iou_threshold min_score max_seg_num nms_method nms_sigma duration_thresh "
    "multiclass_nms voting_thresh ext_score_file",
    training="regression_range center_sample center_sample_radius loss_weight cls_prior_prob init_loss_norm "
    "clip_grad_l2norm head_empty_cls dropout droppath label_smoothing init_rand_seed train_split val_split "
    "trunc_thresh crop_ratio opt.* loader.*",
    features="dataset_name feat_stride num_frames default_fps downsample_rate force_upsampling json_file feat_folder "
    "file_prefix file_ext",
    unused="max_buffer_len_factor devices model_name output_folder",
)
_ACTIONFORMER = _SHARED | _uses(
    weights="fpn_with_ln fpn_start_level use_rel_pe", config="n_head n_mha_win_size use_abs_pe"
)
_TRIDET = _SHARED | _uses(
    weights="fpn_with_ln sgp_mlp_dim n_sgp_win_size boudary_kernel_size num_bins use_trident_head downsample_type",
    config="k use_abs_pe",
    training="iou_weight_power input_noise init_conv_vars",
    unused="dataset.backbone_type",
)
_TEMPORALMAXER = _SHARED | _uses(
    weights="fpn_start_level",
    config="fpn_norm num_group",
    training="assigner.iou_weight assigner.cls_weight assigner.center_radius assigner.keep_percent "
    "assigner.confuse_weight",
    unused="fpn_with_ln",
)
_TADTR = _uses(
    weights="enc_layers dec_layers dim_feedforward hidden_dim num_queries enc_n_points dec_n_points feature_dim "
    "num_feature_levels seg_refine act_reg binary",
    config="nheads slice_len use_pos_embed position_embedding activation disable_query_self_att",
    decoding="postproc_rank postproc_cls_topk postproc_ins_topk nms_thr",
    training="dropout aux_loss act_loss_coef cls_loss_coef seg_loss_coef iou_loss_coef eos_coef focal_alpha "
    "set_cost_class set_cost_seg set_cost_iou lr lr_backbone_names lr_backbone lr_linear_proj_names "
    "lr_linear_proj_mult optimizer batch_size weight_decay clip_max_norm epochs lr_step ckpt_interval iter_size "
    "test_interval seed resume start_epoch num_workers multi_gpu world_size dist_url",
    features="dataset_name input_type feature backbone test_set online_slice slice_overlap test_slice_overlap",
    unused="tensorboard disable_cuda dfm_att_backend output_dir device eval cfg",
)
_POST = _uses(
    decoding="pre_nms_thresh pre_nms_topk nms nms.iou_threshold nms.min_score nms.max_seg_num nms.use_soft_nms "
    "nms.multiclass nms.sigma nms.voting_thresh nms.method nms.t1 nms.t2 external_cls external_cls.* sliding_window "
    "score_type proposal",
    unused="save_dict",
)
_OPENTAD = _uses(
    weights="projection.arch projection.in_channels projection.out_channels projection.conv_cfg.kernel_size "
    "projection.norm_cfg projection.norm_cfg.type projection.sgp_mlp_dim projection.sgp_win_size "
    "projection.downsample_type neck neck.in_channels neck.out_channels neck.num_levels neck.start_level "
    "rpn_head.num_classes rpn_head.in_channels rpn_head.feat_channels rpn_head.num_convs rpn_head.kernel_size "
    "rpn_head.boundary_kernel_size rpn_head.num_bins",
    config="type projection.type projection.attn_cfg.n_head projection.attn_cfg.n_mha_win_size projection.use_abs_pe "
    "projection.max_seq_len projection.k neck.type neck.end_level neck.norm_cfg neck.norm_cfg.type "
    "neck.norm_cfg.num_groups neck.norm_cfg.affine rpn_head.type rpn_head.prior_generator.type "
    "rpn_head.prior_generator.strides rpn_head.prior_generator.use_offset max_seq_len",
    training="projection.conv_cfg.proj_pdrop projection.attn_cfg.attn_pdrop projection.path_pdrop "
    "projection.input_pdrop projection.drop_out projection.init_conv_vars projection.input_noise "
    "rpn_head.cls_prior_prob rpn_head.loss_normalizer rpn_head.loss_normalizer_momentum rpn_head.center_sample "
    "rpn_head.center_sample_radius rpn_head.label_smoothing rpn_head.loss_weight rpn_head.filter_similar_gt "
    "rpn_head.iou_weight_power rpn_head.prior_generator.regression_range rpn_head.loss.* rpn_head.assigner.*",
    features="window_size",
    unused="backbone backbone.* neck.scale_factor",
)
_OPENTAD_TADTR = _uses(
    weights="projection.in_channels projection.out_channels projection.num_convs projection.conv_cfg.kernel_size "
    "projection.conv_cfg.padding transformer.num_proposals transformer.num_classes transformer.with_act_reg "
    "transformer.roi_size transformer.encoder.embed_dim transformer.encoder.num_points transformer.encoder.ffn_dim "
    "transformer.encoder.num_layers transformer.encoder.num_feature_levels transformer.encoder.post_norm "
    "transformer.decoder.embed_dim transformer.decoder.num_points transformer.decoder.ffn_dim "
    "transformer.decoder.num_layers transformer.decoder.num_feature_levels",
    config="type projection.type projection.norm_cfg projection.norm_cfg.type projection.norm_cfg.num_groups "
    "projection.act_cfg projection.act_cfg.type transformer.type transformer.roi_extend_ratio "
    "transformer.position_embedding.type transformer.position_embedding.num_pos_feats "
    "transformer.position_embedding.temperature transformer.position_embedding.offset "
    "transformer.position_embedding.normalize transformer.encoder.type transformer.encoder.num_heads "
    "transformer.encoder.batch_first transformer.decoder.type transformer.decoder.num_heads "
    "transformer.decoder.batch_first max_seq_len window_size",
    training="projection.drop_out transformer.aux_loss transformer.encoder.attn_dropout "
    "transformer.encoder.ffn_dropout transformer.decoder.attn_dropout transformer.decoder.ffn_dropout "
    "transformer.decoder.return_intermediate transformer.loss.type transformer.loss.num_classes "
    "transformer.loss.use_multi_class transformer.loss.loss_class_type transformer.loss.matcher.type "
    "transformer.loss.matcher.cost_class transformer.loss.matcher.cost_bbox transformer.loss.matcher.cost_giou "
    "transformer.loss.matcher.cost_class_type transformer.loss.matcher.iou_type "
    "transformer.loss.matcher.use_multi_class transformer.loss.weight_dict.loss_class "
    "transformer.loss.weight_dict.loss_bbox transformer.loss.weight_dict.loss_iou "
    "transformer.loss.weight_dict.loss_actionness",
    unused="backbone backbone.*",
)
_OPENTAD_BMN = _uses(
    weights="projection.in_channels projection.out_channels projection.num_convs projection.conv_cfg "
    "projection.conv_cfg.groups rpn_head.in_channels rpn_head.num_classes rpn_head.conv_cfg rpn_head.conv_cfg.groups "
    "rpn_head.shared roi_head.proposal_roi_extractor.in_channels roi_head.proposal_roi_extractor.hid_channels "
    "roi_head.proposal_roi_extractor.roi_channels roi_head.proposal_roi_extractor.out_channels "
    "roi_head.proposal_roi_extractor.num_sample roi_head.proposal_head.in_channels "
    "roi_head.proposal_head.feat_channels roi_head.proposal_head.num_classes roi_head.proposal_head.num_convs "
    "roi_head.proposal_head.kernel_size",
    config="type projection.type projection.norm_cfg projection.norm_cfg.type projection.act_cfg "
    "projection.act_cfg.type rpn_head.type roi_head.type roi_head.proposal_generator.type "
    "roi_head.proposal_generator.tscale roi_head.proposal_generator.dscale roi_head.proposal_roi_extractor.type "
    "roi_head.proposal_roi_extractor.tscale roi_head.proposal_roi_extractor.dscale "
    "roi_head.proposal_roi_extractor.num_sample_perbin roi_head.proposal_roi_extractor.prop_extend_ratio "
    "roi_head.proposal_head.type score_type max_seq_len window_size",
    training="projection.drop_out rpn_head.loss.* roi_head.proposal_head.loss.*",
    unused="backbone backbone.*",
)
OPTIONS: Mapping[Family, Mapping[str, Use]] = {
    "actionformer": _ACTIONFORMER,
    "tridet": _TRIDET,
    "temporalmaxer": _TEMPORALMAXER,
    "tadtr": _TADTR,
    "opentad": _OPENTAD,
    "opentad-tadtr": _OPENTAD_TADTR,
    "opentad-bmn": _OPENTAD_BMN,
}
"""Use of every known option; ``x.*`` stands for all options under ``x``. OpenTAD's are named as in its ``model``."""
POST_PROCESSING = _POST
"""Use of the options of OpenTAD's ``post_processing``."""

_NMS = {"nms_method": ("soft", "hard", "none")}
_CENTRE = {"center_sample": ("radius", "none")}
_CONV = {"projection.type": ("ConvSingleProj",)}
ONLY: Mapping[Family, Mapping[str, tuple[Any, ...]]] = {
    "actionformer": _NMS
    | _CENTRE
    | {
        "model_name": ("LocPointTransformer",),
        "backbone_type": ("convTransformer", "conv"),
        "fpn_type": ("identity", "fpn"),
    },
    "tridet": _NMS
    | _CENTRE
    | {
        "model_name": ("TriDet",),
        "backbone_type": ("SGP", "conv"),
        "fpn_type": ("identity", "fpn"),
        "downsample_type": ("max", "avg"),
    },
    "temporalmaxer": _NMS
    | {
        "model_name": ("TemporalMaxerArchitecture",),
        "backbone_type": ("convPooler",),
        "fpn_type": ("identity",),
        "fpn_norm": ("groupnorm", "layernorm", None),
    },
    "tadtr": {
        "use_pos_embed": (True,),
        "position_embedding": ("sine",),
        "disable_query_self_att": (False,),
        "activation": ("relu",),
        "seg_refine": (True,),
        "num_feature_levels": (1,),
        "input_type": ("feature",),
        "backbone": ("none",),
    },
    "opentad": {
        "projection.type": ("Conv1DTransformerProj", "TriDetProj", "TemporalMaxerProj"),
        "projection.norm_cfg.type": ("LN",),
        "projection.downsample_type": ("max", "avg"),
        "neck.type": ("FPNIdentity",),
        "neck.norm_cfg.type": ("LN", "GN"),
        "neck.norm_cfg.affine": (False,),
        "neck.end_level": (-1,),
        "rpn_head.type": ("AnchorFreeHead", "ActionFormerHead", "TriDetHead", "TemporalMaxerHead"),
        "rpn_head.prior_generator.type": ("PointGenerator",),
        "rpn_head.prior_generator.use_offset": (False,),
        "rpn_head.center_sample": ("radius", "none"),
    },
    "opentad-tadtr": _CONV
    | {
        "projection.num_convs": (1,),
        "projection.conv_cfg.kernel_size": (1,),
        "projection.conv_cfg.padding": (0,),
        "projection.norm_cfg.type": ("GN",),
        "projection.act_cfg": (None,),
        "projection.act_cfg.type": (None,),
        "transformer.type": ("TadTRTransformer",),
        "transformer.position_embedding.type": ("PositionEmbeddingSine",),
        "transformer.position_embedding.temperature": (10000,),
        "transformer.position_embedding.offset": (-0.5,),
        "transformer.position_embedding.normalize": (True,),
        "transformer.encoder.type": ("DeformableDETREncoder",),
        "transformer.encoder.num_feature_levels": (1,),
        "transformer.encoder.post_norm": (False,),
        "transformer.decoder.type": ("DeformableDETRDecoder",),
        "transformer.decoder.num_feature_levels": (1,),
    },
    "opentad-bmn": _CONV
    | {
        "projection.num_convs": (2,),
        "projection.norm_cfg": (None,),
        "projection.norm_cfg.type": (None,),
        "projection.act_cfg.type": ("relu",),
        "rpn_head.type": ("TemporalEvaluationHead",),
        "rpn_head.num_classes": (2,),
        "rpn_head.shared": (False,),
        "roi_head.type": ("StandardProposalMapHead",),
        "roi_head.proposal_generator.type": ("DenseProposalMap",),
        "roi_head.proposal_roi_extractor.type": ("BMNExtractor",),
        "roi_head.proposal_head.type": ("PEMHead",),
        "roi_head.proposal_head.num_classes": (2,),
        "roi_head.proposal_head.kernel_size": (3,),
    },
}
"""The values that tadkit supports, where they are not all."""

PROJECTS: Mapping[Family, str] = {
    "actionformer": "ActionFormer",
    "tridet": "TriDet",
    "temporalmaxer": "TemporalMaxer",
    "tadtr": "TadTR",
    "opentad": "a head of OpenTAD",
    "opentad-tadtr": "OpenTAD's TadTR",
    "opentad-bmn": "OpenTAD's BMN",
}
"""Names for error messages."""
DEFAULTS: Mapping[str, Any] = {
    "scale_factor": 2,
    "n_head": 4,
    "n_mha_win_size": -1,
    "max_seq_len": 2304,
    "use_abs_pe": False,
    "k": 1.5,
    "num_group": 4,
    "init_loss_norm": 2000,
    "pre_nms_thresh": 0.001,
    "pre_nms_topk": 5000,
    "iou_threshold": 0.1,
    "min_score": 0.01,
    "max_seg_num": 1000,
    "nms_method": "soft",
    "nms_sigma": 0.5,
    "duration_thresh": 0.05,
    "multiclass_nms": True,
    "voting_thresh": 0.75,
}
"""What the YAML files of ActionFormer, TriDet and TemporalMaxer are merged over, as far as it is needed here."""
SECTIONS = ("model", "train_cfg", "test_cfg")
"""Sections of YAML files whose options have names of their own."""
RENAMED: Mapping[str, str] = {
    "projection.arch": "backbone_arch",
    "projection.in_channels": "input_dim",
    "projection.out_channels": "embd_dim",
    "projection.conv_cfg.kernel_size": "embd_kernel_size",
    "projection.conv_cfg.proj_pdrop": "dropout",
    "projection.attn_cfg.n_head": "n_head",
    "projection.attn_cfg.n_mha_win_size": "n_mha_win_size",
    "projection.path_pdrop": "droppath",
    "projection.use_abs_pe": "use_abs_pe",
    "projection.max_seq_len": "max_seq_len",
    "projection.k": "k",
    "projection.sgp_mlp_dim": "sgp_mlp_dim",
    "projection.sgp_win_size": "n_sgp_win_size",
    "projection.downsample_type": "downsample_type",
    "projection.input_noise": "input_noise",
    "neck.out_channels": "fpn_dim",
    "neck.start_level": "fpn_start_level",
    "neck.norm_cfg": "fpn_norm",
    "neck.norm_cfg.type": "fpn_norm",
    "neck.num_levels": "levels",
    "neck.norm_cfg.num_groups": "num_group",
    "rpn_head.num_classes": "num_classes",
    "rpn_head.feat_channels": "head_dim",
    "rpn_head.kernel_size": "head_kernel_size",
    "rpn_head.boundary_kernel_size": "boudary_kernel_size",
    "rpn_head.num_bins": "num_bins",
    "rpn_head.iou_weight_power": "iou_weight_power",
    "rpn_head.prior_generator.strides": "strides",
    "rpn_head.prior_generator.regression_range": "regression_range",
    "rpn_head.loss_normalizer": "init_loss_norm",
    "rpn_head.center_sample": "center_sample",
    "rpn_head.center_sample_radius": "center_sample_radius",
    "rpn_head.label_smoothing": "label_smoothing",
    "rpn_head.loss_weight": "loss_weight",
    "rpn_head.cls_prior_prob": "cls_prior_prob",
    "rpn_head.assigner.center_radius": "assigner.center_radius",
}
"""ActionFormer's names of OpenTAD's options."""
YAML = ("actionformer", "tridet", "temporalmaxer")
"""Families whose files are YAML, merged over defaults."""
