"""Lists of clips, and the way from a list to batches."""

from everest.datasets.check import check_manifest, default_report
from everest.datasets.check_report import CheckReport, Quarantine, write_quarantine
from everest.datasets.check_rows import CheckRow
from everest.datasets.clips import Sample, SampleKey, TrainClips, ViewClips, Views
from everest.datasets.flow import FlowReport, compute_flow
from everest.datasets.flow_files import default_flow
from everest.datasets.folder import index_folder
from everest.datasets.index import FORMATS, Index, index_source
from everest.datasets.loader import Batch, TrainLoader, build_train_loader
from everest.datasets.manifest import read_manifest, write_manifest
from everest.datasets.pack import PackReport, pack_manifest
from everest.datasets.packing import PackSettings
from everest.datasets.records import VIDEO_EXTENSIONS, ClipRecord, Manifest
from everest.datasets.sampler import BatchPlan, EpochSampler, plan_batches
from everest.datasets.shards import with_hashes
from everest.datasets.source import hold_out, load_data
from everest.datasets.verify import verify_shards
from everest.datasets.view_loader import ViewLoader, build_view_loader

__all__ = [
    "FORMATS",
    "VIDEO_EXTENSIONS",
    "Batch",
    "BatchPlan",
    "CheckReport",
    "CheckRow",
    "ClipRecord",
    "EpochSampler",
    "FlowReport",
    "Index",
    "Manifest",
    "PackReport",
    "PackSettings",
    "Quarantine",
    "Sample",
    "SampleKey",
    "TrainClips",
    "TrainLoader",
    "ViewClips",
    "ViewLoader",
    "Views",
    "build_train_loader",
    "build_view_loader",
    "check_manifest",
    "compute_flow",
    "default_flow",
    "default_report",
    "hold_out",
    "index_folder",
    "index_source",
    "load_data",
    "pack_manifest",
    "plan_batches",
    "read_manifest",
    "verify_shards",
    "with_hashes",
    "write_manifest",
    "write_quarantine",
]
