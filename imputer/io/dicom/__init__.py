"""DICOM: what a folder or archive holds, a series as a volume, and a volume as a derived series."""
