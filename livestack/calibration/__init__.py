"""From what the camera wrote to linear data: masters, defects and cosmic rays, debayering, binning."""
