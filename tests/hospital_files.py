"""DICOM files with a video, as a recorder writes them; and a sender of them in a process of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import generate_uid

NAME = "Mustermann^Erika"
ENDOSCOPIC, H264 = "1.2.840.10008.5.1.4.1.1.77.1.1.1", "1.2.840.10008.1.2.4.102"


def write_dicom(path: Path, stream: bytes, fragments: int = 1, **elements: object) -> Dataset:
    """A DICOM file of the patient ``NAME`` at ``path``. ``elements``: keyword → value, over the values here."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = ENDOSCOPIC, generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = generate_uid(), generate_uid(), "ES"
    ds.PatientName, ds.PatientID = NAME, "P-4711"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = 64, 96, 3, "YBR_PARTIAL_420"
    ds.PlanarConfiguration, ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 0, 8, 8, 7, 0
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = H264
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    step = -(-len(stream) // fragments // 2) * 2
    parts = [stream[at : at + step] for at in range(0, len(stream), step)]
    parts[-1] += b"\0" * (len(parts[-1]) % 2)
    items = b"".join(b"\xfe\xff\0\xe0" + len(part).to_bytes(4, "little") + part for part in [b"", *parts])
    ds.PixelData = items  # pydicom ends the sequence
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    ds.save_as(path, enforce_file_format=True)
    return ds


def send(port: int, files: list[str], calling: str = "ENDO1", called: str = "HALSTED", ca: str = "") -> list[int]:
    """Sends ``files`` by C-STORE on one association; the status of each (-1: no answer). Empty: not associated."""
    import ssl

    from pynetdicom import _config
    from pynetdicom.ae import ApplicationEntity

    before, _config.STORE_SEND_CHUNKED_DATASET = _config.STORE_SEND_CHUNKED_DATASET, True
    entity = ApplicationEntity(calling)
    entity.add_requested_context(ENDOSCOPIC, H264)
    tls = None
    if ca:
        tls = (ssl.create_default_context(cafile=ca), "localhost")
    try:
        association = entity.associate("127.0.0.1", port, ae_title=called, tls_args=tls)
        if not association.is_established:
            return []
        try:
            return [int(association.send_c_store(path).get("Status", -1)) for path in files]
        finally:
            association.release()
    finally:
        _config.STORE_SEND_CHUNKED_DATASET = before


if __name__ == "__main__":
    print(json.dumps(send(int(sys.argv[1]), sys.argv[3:], sys.argv[2])))
